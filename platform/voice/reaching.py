"""From an opened call to a worker that can talk: places in the order in which to try them, a session, a handshake."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from opentelemetry import trace
from psycopg_pool import AsyncConnectionPool

from agents.engines import worker_of
from gpu_workers.protocol import Part, Start
from provisioning.backends import BackendUnknown, OpenBackends
from provisioning.backends.contract import AtCapacity, Backend, BackendError, GrantedSession, SessionUnavailable
from provisioning.placing import Place, find_places
from voice import metrics
from voice.calls import DATABASE_AWAY
from voice.held import HeldSession
from voice.ongoing import OngoingCall
from voice.options import Options
from voice.sockets import WorkerAtCapacity, WorkerOccupied, WorkerSocket, WorkerTimedOut, WorkerUnavailable

AGAIN_SECONDS = 3.0
"""How long the place that a call had is tried, before it gets another one."""
AGAIN_PAUSE_SECONDS = 0.1
PART_SECONDS = 5.0
"""How long a call waits for a worker that does a part of the work, before it goes on with what the cascade has."""
OVERTIME_SECONDS = 1.0
"""A backend that is told how long it has says by itself that this was too short; one that hangs is not waited for."""

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("warmline.gateway")


@contextlib.asynccontextmanager
async def reached_worker(
    pool: AsyncConnectionPool[Any],
    backends: OpenBackends,
    call: OngoingCall,
    engine: str,
    start: Start,
    parts: Sequence[str],
    options: Options,
    *,
    again: HeldSession | None = None,
) -> AsyncIterator[WorkerSocket]:
    """Hold a worker that can talk for the length of the block, and give its place back after it.

    Args:
        again: a place that the call had, which is tried first.
        parts: kinds of worker that do a part of its work, near it. One that cannot be had is left out of its `start`.

    Raises:
        WorkerAtCapacity, WorkerTimedOut, WorkerUnavailable: of the last place tried.
    """
    kind = worker_of(engine)
    places, call.unused_places = call.unused_places, []
    problem = WorkerUnavailable(f"No {kind} workers are deployed for this tenant.")
    try:
        places = call.places[kind] = places or await _places_for(kind, pool, call, call.caller_region, options)
    except WorkerUnavailable as away:
        if again is None:
            raise
        problem = away  # the place that it has needs no asking
    left_seconds = options.reserve_seconds  # for sessions; a handshake has its own limit
    async with contextlib.AsyncExitStack() as held:
        if again is not None:
            try:
                yield await held.enter_async_context(_worker_again(again, pool, backends, call, start, parts, options))
                return
            except WorkerUnavailable as refusal:
                if again.last_seen is None:  # it was reached, and is lost to who holds it: that is no refusal
                    raise
                log.warning("place.lost", container=again.container, problem=str(refusal))
        for left, place in zip(range(len(places), 0, -1), places, strict=True):
            asked = time.monotonic()
            seconds = share_of(left_seconds, places=left, at_most=options.place_seconds)
            try:
                worker = await held.enter_async_context(
                    _worker_at(place, pool, backends, call, start, parts, seconds, options)
                )
                break
            except WorkerUnavailable as refusal:
                log.warning("place.refused", deployment=place.name, region=place.region, problem=str(refusal))
                problem = refusal
                left_seconds -= min(seconds, time.monotonic() - asked)
                why = refusal.close_code.name.lower()
                metrics.REFUSED_PLACES.labels(region=place.region, reason=why).inc()
                waited_ms = round((time.monotonic() - asked) * 1000)
                call.note_refusal(region=place.region, is_own=place.is_own, waited_ms=waited_ms, why=why)
        else:
            raise problem
        yield worker


def share_of(seconds: float, *, places: int, at_most: float) -> float:
    """Return how long to wait for the first of so many places: one that hangs leaves as much for each of the others."""
    return max(0.001, seconds if places == 1 else min(at_most, seconds / places))


@contextlib.asynccontextmanager
async def _worker_at(
    place: Place,
    pool: AsyncConnectionPool[Any],
    backends: OpenBackends,
    call: OngoingCall,
    start: Start,
    parts: Sequence[str],
    seconds: float,
    options: Options,
) -> AsyncIterator[WorkerSocket]:
    asked = time.monotonic()
    with tracer.start_as_current_span("start session"):
        _, granted = await _start_session(backends, place, seconds)
    session = HeldSession.at(place, granted, asked)
    call.grant(session)
    async with _talking(session, pool, backends, call, start, parts, options.handshake_seconds, options) as socket:
        session.connect_ms = round((time.monotonic() - session.granted) * 1000)
        yield socket


@contextlib.asynccontextmanager
async def _worker_again(
    session: HeldSession,
    pool: AsyncConnectionPool[Any],
    backends: OpenBackends,
    call: OngoingCall,
    start: Start,
    parts: Sequence[str],
    options: Options,
) -> AsyncIterator[WorkerSocket]:
    """Hold a worker on the place that the call had with another gateway, which may not have let go of it yet."""
    deadline = time.monotonic() + AGAIN_SECONDS
    call.grant(session)
    async with contextlib.AsyncExitStack() as held:
        while True:
            try:
                seconds = max(AGAIN_PAUSE_SECONDS, deadline - time.monotonic())
                worker = await held.enter_async_context(
                    _talking(session, pool, backends, call, start, parts, seconds, options)
                )
                break
            except WorkerOccupied:
                if time.monotonic() + AGAIN_PAUSE_SECONDS > deadline:
                    session.end("gateway_lost")
                    raise
                await asyncio.sleep(AGAIN_PAUSE_SECONDS)
        session.last_seen = None
        yield worker


@contextlib.asynccontextmanager
async def _talking(
    session: HeldSession,
    pool: AsyncConnectionPool[Any],
    backends: OpenBackends,
    call: OngoingCall,
    start: Start,
    parts: Sequence[str],
    seconds: float,
    options: Options,
) -> AsyncIterator[WorkerSocket]:
    """Hold the connection to a place that was granted, with its parts; in the end the place is given back."""
    reach = session.reach
    assert reach is not None
    is_ours = True
    try:
        async with contextlib.AsyncExitStack() as held:
            endpoints = [
                await held.enter_async_context(_part(kind, pool, backends, call, session.region, options))
                for kind in parts
            ]
            told = {kind: each for kind, each in zip(parts, endpoints, strict=True) if each}
            socket = WorkerSocket(
                reach.url,
                reach.headers,
                first_message=dataclasses.replace(start, parts=told).to_message(),
                timeout_seconds=seconds,
                silence_seconds=options.worker_silence_seconds,
            )
            with tracer.start_as_current_span("connect"):
                await socket.__aenter__()
            try:
                yield socket
            finally:
                await socket.close()
    except WorkerOccupied:
        is_ours = False
        raise
    except WorkerUnavailable as problem:
        session.end(problem.close_code.name.lower())
        raise
    finally:
        if is_ours and not call.leaves_workers:
            with contextlib.suppress(BackendError, BackendUnknown):  # it ends by itself when nobody is connected
                await (await backends.get(reach.backend)).end_session(reach.ref, reach.session_ref)


async def _start_session(backends: OpenBackends, place: Place, seconds: float) -> tuple[Backend, GrantedSession]:
    """Reserve a session within so many seconds, also where the backend itself hangs.

    Raises:
        WorkerAtCapacity, WorkerTimedOut, WorkerUnavailable
    """
    try:
        async with asyncio.timeout(seconds + OVERTIME_SECONDS):
            backend = await backends.get(place.backend)
            return backend, await backend.start_session(place.ref, timeout_ms=max(1, round(seconds * 1000)))
    except (BackendError, BackendUnknown) as problem:
        raise _as_ours(problem) from problem
    except TimeoutError as problem:
        raise WorkerTimedOut(f"{place.name} gave no place within {seconds:.1f} s.") from problem


@contextlib.asynccontextmanager
async def _part(
    kind: str,
    pool: AsyncConnectionPool[Any],
    backends: OpenBackends,
    call: OngoingCall,
    region: str,
    options: Options,
) -> AsyncIterator[Part | None]:
    """Hold a place on a worker that does a part of the work, near its engine; None where there is none in time."""
    places = await _places_for(kind, pool, call, region, options)
    deadline = time.monotonic() + PART_SECONDS
    for left, place in zip(range(len(places), 0, -1), places, strict=True):
        asked = time.monotonic()
        seconds = share_of(deadline - asked, places=left, at_most=PART_SECONDS)
        try:
            backend, granted = await _start_session(backends, place, seconds)
        except WorkerUnavailable as problem:
            log.warning("part.refused", part=kind, deployment=place.name, problem=str(problem))
            continue
        session = HeldSession.at(place, granted, asked, role=kind)
        call.grant_part(session)
        try:
            yield Part(granted.url, dict(granted.headers))
        finally:
            session.end("given_back")  # before the call ends only where its engine could not be had
            with contextlib.suppress(BackendError):  # as above
                await backend.end_session(place.ref, granted.ref)
        return
    if not places:
        log.warning("part.refused", part=kind, problem="No such workers are deployed for this tenant.")
    yield None


async def _places_for(
    worker: str, pool: AsyncConnectionPool[Any], call: OngoingCall, region: str, options: Options
) -> list[Place]:
    """Return where a kind of worker can be; while the database is away, where it could be when last asked.

    Raises:
        WorkerUnavailable: the database is away, and was never asked.
    """
    try:
        async with asyncio.timeout(options.database_seconds), pool.connection() as connection:
            found = await find_places(connection, tenant_id=call.tenant_id, worker=worker, region=region)
    except DATABASE_AWAY as problem:
        if worker not in call.places:
            raise WorkerUnavailable("Where workers are cannot be asked now.") from problem
        log.warning("database.away", problem=repr(problem))
        return call.places[worker]
    call.places[worker] = found
    return found


def _as_ours(problem: BackendError | BackendUnknown) -> WorkerUnavailable:
    if isinstance(problem, AtCapacity):
        return WorkerAtCapacity(str(problem))
    if isinstance(problem, SessionUnavailable):
        return WorkerTimedOut(str(problem))
    return WorkerUnavailable(str(problem))
