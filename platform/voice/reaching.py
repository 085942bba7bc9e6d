"""From an opened call to a worker that can talk: places in the order in which to try them, a session, a handshake."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
import uuid
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
from voice.ongoing import HeldSession, OngoingCall, now
from voice.options import Options
from voice.sockets import WorkerAtCapacity, WorkerSocket, WorkerTimedOut, WorkerUnavailable

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
) -> AsyncIterator[WorkerSocket]:
    """Hold a worker that can talk for the length of the block, and give its place back after it.

    Args:
        parts: kinds of worker that do a part of its work, near it. One that cannot be had is left out of its `start`.

    Raises:
        WorkerAtCapacity, WorkerTimedOut, WorkerUnavailable: of the last place tried.
    """
    async with asyncio.timeout(options.database_seconds), pool.connection() as connection:
        kind = worker_of(engine)
        places = await find_places(connection, tenant_id=call.tenant_id, worker=kind, region=call.caller_region)
    problem = WorkerUnavailable(f"No {kind} workers are deployed for this tenant.")
    left_seconds = options.reserve_seconds  # for sessions; a handshake has its own limit
    async with contextlib.AsyncExitStack() as held:
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
        backend, granted = await _start_session(backends, place, seconds)
    session = _held_session(place, granted, asked)
    call.grant(session)
    try:
        async with contextlib.AsyncExitStack() as held:
            endpoints = [
                await held.enter_async_context(_part(kind, pool, backends, call, place.region)) for kind in parts
            ]
            told = {kind: each for kind, each in zip(parts, endpoints, strict=True) if each}
            socket = WorkerSocket(
                granted.url,
                granted.headers,
                first_message=dataclasses.replace(start, parts=told).to_message(),
                timeout_seconds=options.handshake_seconds,
            )
            with tracer.start_as_current_span("connect"):
                await socket.__aenter__()
            session.connect_ms = round((time.monotonic() - session.granted) * 1000)
            try:
                yield socket
            finally:
                await socket.close()
    except WorkerUnavailable as problem:
        session.end(problem.close_code.name.lower())
        raise
    finally:
        with contextlib.suppress(BackendError):  # it ends by itself when nobody is connected
            await backend.end_session(place.ref, granted.ref)


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
    kind: str, pool: AsyncConnectionPool[Any], backends: OpenBackends, call: OngoingCall, region: str
) -> AsyncIterator[Part | None]:
    """Hold a place on a worker that does a part of the work, near its engine; None where there is none in time."""
    async with pool.connection() as connection:
        places = await find_places(connection, tenant_id=call.tenant_id, worker=kind, region=region)
    deadline = time.monotonic() + PART_SECONDS
    for left, place in zip(range(len(places), 0, -1), places, strict=True):
        asked = time.monotonic()
        seconds = share_of(deadline - asked, places=left, at_most=PART_SECONDS)
        try:
            backend, granted = await _start_session(backends, place, seconds)
        except WorkerUnavailable as problem:
            log.warning("part.refused", part=kind, deployment=place.name, problem=str(problem))
            continue
        session = _held_session(place, granted, asked, role=kind)
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


def _held_session(place: Place, granted: GrantedSession, asked: float, *, role: str = "engine") -> HeldSession:
    return HeldSession(
        role=role,
        id=uuid.uuid4(),
        pool_id=place.pool_id,
        deployment_id=place.deployment_id,
        region=place.region,
        container=granted.container or "",
        backend_ref=granted.ref,
        rate_nano_dollars_per_second=place.rate_nano_dollars_per_second,
        granted_at=now(),
        granted=time.monotonic(),
        reserve_ms=round((time.monotonic() - asked) * 1000),
    )


def _as_ours(problem: BackendError | BackendUnknown) -> WorkerUnavailable:
    if isinstance(problem, AtCapacity):
        return WorkerAtCapacity(str(problem))
    if isinstance(problem, SessionUnavailable):
        return WorkerTimedOut(str(problem))
    return WorkerUnavailable(str(problem))
