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
from provisioning.backends.contract import AtCapacity, BackendError, GrantedSession, SessionUnavailable
from provisioning.placing import Place, find_places
from voice.ongoing import HeldSession, OngoingCall, now
from voice.options import Options
from voice.sockets import WorkerAtCapacity, WorkerSocket, WorkerTimedOut, WorkerUnavailable

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
) -> AsyncIterator[WorkerSocket]:
    """Hold a worker that can talk for the length of the block, and give its place back after it.

    Args:
        parts: kinds of worker that do a part of its work. One that cannot be had is left out of its `start`.

    Raises:
        WorkerAtCapacity, WorkerTimedOut, WorkerUnavailable: of the last place tried.
    """
    async with asyncio.timeout(options.database_seconds), pool.connection() as connection:
        kind = worker_of(engine)
        places = await find_places(connection, tenant_id=call.tenant_id, worker=kind, region=call.region)
    problem = WorkerUnavailable(f"No {kind} workers are deployed for this tenant.")
    deadline = time.monotonic() + options.reserve_seconds
    async with contextlib.AsyncExitStack() as held:
        endpoints = [await held.enter_async_context(_part(kind, pool, backends, call)) for kind in parts]
        start = dataclasses.replace(
            start, parts={kind: each for kind, each in zip(parts, endpoints, strict=True) if each}
        )
        first_message = start.to_message()
        for place in places:
            try:
                worker = await held.enter_async_context(
                    _worker_at(place, backends, call, first_message, deadline, options)
                )
                break
            except WorkerUnavailable as refusal:
                log.warning("place.refused", deployment=place.name, problem=str(refusal))
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
    session = _held_session(place, granted, asked)
    call.grant(session)
    try:
        socket = WorkerSocket(
            granted.url, granted.headers, first_message=first_message, timeout_seconds=options.handshake_seconds
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


@contextlib.asynccontextmanager
async def _part(
    kind: str, pool: AsyncConnectionPool[Any], backends: OpenBackends, call: OngoingCall
) -> AsyncIterator[Part | None]:
    """Hold a place on a worker that does a part of the work; None where there is none in time."""
    async with pool.connection() as connection:
        places = await find_places(connection, tenant_id=call.tenant_id, worker=kind, region=call.region)
    deadline = time.monotonic() + PART_SECONDS
    for place in places:
        asked = time.monotonic()
        try:
            backend = await backends.get(place.backend)
            granted = await backend.start_session(place.ref, timeout_ms=max(1, round((deadline - asked) * 1000)))
        except (BackendError, BackendUnknown) as problem:
            log.warning("part.refused", part=kind, deployment=place.name, problem=str(problem))
            continue
        session = _held_session(place, granted, asked, role=kind)
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
