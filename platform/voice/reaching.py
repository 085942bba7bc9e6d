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

from gpu_workers.protocol import Part, Start
from provisioning.backends import BackendUnknown, OpenBackends
from provisioning.backends.contract import AtCapacity, BackendError, SessionUnavailable
from provisioning.placing import Place, find_places
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
        parts: kinds of worker that do a part of its work. One that cannot be had is left out of its `start`.

    Raises:
        WorkerAtCapacity, WorkerTimedOut, WorkerUnavailable: of the last place tried.
    """
    places = await _places_for(engine, pool, call, options)
    problem = WorkerUnavailable(f"No {engine} workers are deployed for this tenant.")
    deadline = time.monotonic() + options.reserve_seconds
    async with contextlib.AsyncExitStack() as held:
        endpoints = [await held.enter_async_context(_part(kind, pool, backends, call, options)) for kind in parts]
        start = dataclasses.replace(
            start, parts={kind: each for kind, each in zip(parts, endpoints, strict=True) if each}
        )
        first_message = start.to_message()
        tries = [(place.name, _worker_at(place, backends, call, first_message, deadline, options)) for place in places]
        if again is not None:
            tries.insert(0, ("the place that it had", _worker_again(again, backends, call, first_message, options)))
        for name, attempt in tries:
            try:
                worker = await held.enter_async_context(attempt)
                break
            except WorkerUnavailable as refusal:
                log.warning("place.refused", deployment=name, problem=str(refusal))
                problem = refusal
        else:
            raise problem
        yield worker


@contextlib.asynccontextmanager
async def _worker_at(
    place: Place, backends: OpenBackends, call: OngoingCall, first_message: bytes, deadline: float, options: Options
) -> AsyncIterator[WorkerSocket]:
    asked = time.monotonic()
    try:
        backend = await backends.get(place.backend)
        with tracer.start_as_current_span("start session"):
            granted = await backend.start_session(place.ref, timeout_ms=max(1, round((deadline - asked) * 1000)))
    except (BackendError, BackendUnknown) as problem:
        raise _as_ours(problem) from problem
    session = HeldSession.at(place, granted, asked)
    call.grant(session)
    async with _talking(session, backends, call, first_message, options.handshake_seconds, options) as socket:
        session.connect_ms = round((time.monotonic() - session.granted) * 1000)
        yield socket


@contextlib.asynccontextmanager
async def _worker_again(
    session: HeldSession, backends: OpenBackends, call: OngoingCall, first_message: bytes, options: Options
) -> AsyncIterator[WorkerSocket]:
    """Hold a worker on the place that the call had with another gateway, which may not have let go of it yet."""
    deadline = time.monotonic() + AGAIN_SECONDS
    call.grant(session)
    async with contextlib.AsyncExitStack() as held:
        while True:
            try:
                seconds = max(AGAIN_PAUSE_SECONDS, deadline - time.monotonic())
                worker = await held.enter_async_context(
                    _talking(session, backends, call, first_message, seconds, options)
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
    backends: OpenBackends,
    call: OngoingCall,
    first_message: bytes,
    seconds: float,
    options: Options,
) -> AsyncIterator[WorkerSocket]:
    """Hold the connection to a place that was granted; in the end the place is given back."""
    reach = session.reach
    assert reach is not None
    socket = WorkerSocket(
        reach.url,
        reach.headers,
        first_message=first_message,
        timeout_seconds=seconds,
        silence_seconds=options.worker_silence_seconds,
    )
    is_ours = True
    try:
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


@contextlib.asynccontextmanager
async def _part(
    kind: str, pool: AsyncConnectionPool[Any], backends: OpenBackends, call: OngoingCall, options: Options
) -> AsyncIterator[Part | None]:
    """Hold a place on a worker that does a part of the work; None where there is none in time."""
    places = await _places_for(kind, pool, call, options)
    deadline = time.monotonic() + PART_SECONDS
    for place in places:
        asked = time.monotonic()
        try:
            backend = await backends.get(place.backend)
            granted = await backend.start_session(place.ref, timeout_ms=max(1, round((deadline - asked) * 1000)))
        except (BackendError, BackendUnknown) as problem:
            log.warning("part.refused", part=kind, deployment=place.name, problem=str(problem))
            continue
        session = HeldSession.at(place, granted, asked, role=kind)
        call.grant_part(session)
        try:
            yield Part(granted.url, dict(granted.headers))
        finally:
            with contextlib.suppress(BackendError):  # as above
                await backend.end_session(place.ref, granted.ref)
        return
    if not places:
        log.warning("part.refused", part=kind, problem="No such workers are deployed for this tenant.")
    yield None


async def _places_for(
    worker: str, pool: AsyncConnectionPool[Any], call: OngoingCall, options: Options
) -> Sequence[Place]:
    """Return where a kind of worker can be; while the database is away, where it could be when last asked.

    Raises:
        WorkerUnavailable: the database is away, and was never asked.
    """
    try:
        async with asyncio.timeout(options.database_seconds), pool.connection() as connection:
            found = await find_places(connection, tenant_id=call.tenant_id, worker=worker, region=call.region)
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
