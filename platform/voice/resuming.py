"""A caller who comes back: the token is used up, and where another gateway held the call, this one takes it over.

The epoch moves on in the transaction that takes the call: from then on the other gateway can write nothing more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool

from content import crypto
from content.keys import TenantKeyDeleted, tenant_key_async
from content.tool_runs import read_tool_runs
from content.transcripts import Line, read_lines
from gpu_workers.protocol import CloseCode, ToolRun, Utterance
from provisioning.costs import cost_of
from tenants.models import hash_secret
from voice import statements
from voice.admission import Admitted, Refused
from voice.held import HeldSession, Reach
from voice.ongoing import Earlier, OngoingCall
from voice.options import Options
from voice.talk_clock import TalkClock


@dataclasses.dataclass(frozen=True, slots=True)
class TakenOver:
    """A call that another gateway held. `again`: the place that it had there, where that can still be reached."""

    admitted: Admitted
    call: OngoingCall
    again: HeldSession | None


@dataclasses.dataclass(frozen=True, slots=True)
class Returned:
    """A caller's call, and the token for the next time. `taken_over` is None where this gateway holds the call."""

    call_id: uuid.UUID
    resume_token: str = dataclasses.field(repr=False)
    taken_over: TakenOver | None


async def come_back(
    pool: AsyncConnectionPool[Any], token: str, *, is_held: Callable[[uuid.UUID, int], bool], options: Options
) -> Returned:
    """Use up a token and find its call.

    Args:
        is_held: whether this gateway holds a call in this epoch.

    Raises:
        Refused: the token is not known, was used before, or its call has ended.
        psycopg.Error, TimeoutError: the database cannot be reached; the token stays good.
    """
    new_token = secrets.token_urlsafe(24)
    async with asyncio.timeout(options.database_seconds), pool.connection() as connection, connection.transaction():
        found = await connection.cursor(row_factory=namedtuple_row).execute(
            statements.ENTER_BY_RESUME_TOKEN, {"token_hash": hash_secret(token), "new_hash": hash_secret(new_token)}
        )
        entered: Any = await found.fetchone()
        if entered is None:
            raise Refused(CloseCode.CANNOT_RESUME)
        if is_held(entered.call_id, entered.epoch):
            return Returned(entered.call_id, new_token, None)
        return Returned(entered.call_id, new_token, await _take_over(connection, entered.call_id, new_token, options))


async def _take_over(
    connection: psycopg.AsyncConnection[Any], call_id: uuid.UUID, token: str, options: Options
) -> TakenOver:
    cursor = connection.cursor(row_factory=namedtuple_row)
    await cursor.execute(statements.TAKE_OVER, {"id": call_id})
    await cursor.execute(statements.CALL_SO_FAR, {"id": call_id})
    row: Any = await cursor.fetchone()
    await cursor.execute(statements.SESSIONS_SO_FAR, {"id": call_id})
    sessions: list[Any] = await cursor.fetchall()
    lines = await read_lines(connection, tenant_id=row.tenant_id, call_id=call_id)
    tools = await read_tool_runs(connection, call_id=call_id)
    key = await _key(connection, row.tenant_id)

    call = _call_of(row, lines, [ToolRun(name, ok) for name, ok in tools])
    held = [_session_of(session, key) for session in sessions]
    engines = [each for each in held if each.role == "engine"]
    again = next((each for each in reversed(engines) if each.ended is None and each.reach is not None), None)
    call.opening = next((each for each in engines if each.connect_ms is not None), None)
    for session in held:
        if session is not again and session.ended is None:
            session.end("gateway_lost")  # parts of the engine's work, too: it gets new ones
            call.sessions.append(session)
    call.earlier = dataclasses.replace(
        call.earlier,
        cost_nano_dollars=sum(
            cost_of(session.active_ms, session.rate_nano_dollars_per_second)
            for session in sessions
            if session.ended_at is not None
        ),
    )
    return TakenOver(_admitted_of(row, token, options), call, again)


def _call_of(row: Any, lines: list[Line], tools: list[ToolRun]) -> OngoingCall:
    at = time.monotonic()
    call = OngoingCall(
        call_id=row.id,
        tenant_id=row.tenant_id,
        epoch=row.epoch,
        began=_monotonic(row.started_at),
        setup_ms=row.setup_ms,
        can_resume=True,
    )
    call.region, call.caller_region = row.region, row.caller_region
    call.refused_places = list(row.refused_places)
    call.earlier = Earlier(ready_ms=row.ready_ms, first_audio_ms=row.first_audio_ms, turns=row.turns_count)
    call.clock = TalkClock(talked_ms=row.duration_ms, longest_gap_ms=row.longest_gap_ms)
    # When the other gateway was lost nobody knows: the gap is measured from when the caller was here.
    call.clock.begin_gap(at)
    call.failovers, call.resumes = row.failovers, row.resumes + 1
    call.go_on_from(
        last_index=max([row.last_turn if row.last_turn is not None else -1, *(line.turn_index for line in lines)]),
        lines_count=max((line.position for line in lines), default=-1) + 1,
        said=[Utterance(line.role, line.text) for line in lines],
        tools_run=tools,
    )
    call.from_caller.messages, call.from_caller.bytes = row.audio_in_messages, row.audio_in_bytes
    call.from_worker.messages, call.from_worker.bytes = row.audio_out_messages, row.audio_out_bytes
    call.from_caller.discarded = row.discarded_messages
    return call


def _session_of(row: Any, key: bytes | None) -> HeldSession:
    granted = _monotonic(row.granted_at)
    seen = granted + row.active_ms / 1000
    return HeldSession(
        id=row.id,
        pool_id=row.pool_id,
        deployment_id=row.deployment_id,
        region=row.region,
        container=row.container,
        backend_ref=row.backend_ref,
        rate_nano_dollars_per_second=row.rate_nano_dollars_per_second,
        granted_at=row.granted_at,
        granted=granted,
        reserve_ms=row.reserve_ms,
        role=row.role,
        connect_ms=row.connect_ms,
        boot=row.boot,
        boot_ms=row.boot_ms,
        ended=None if row.ended_at is None else seen,
        why_ended=row.why_ended,
        gap_ms=row.gap_ms,
        last_seen=seen,
        reach=_reach_of(row, key),
        sealed=row.reach,
    )


def _reach_of(row: Any, key: bytes | None) -> Reach | None:
    if key is None or not row.reach:
        return None
    try:
        return Reach.unseal(key, row.id, bytes(row.reach))
    except (crypto.DecryptionFailed, ValueError, TypeError, KeyError):
        return None  # written by another version: the call gets another place


def _admitted_of(row: Any, token: str, options: Options) -> Admitted:
    return Admitted(
        call_id=row.id,
        epoch=row.epoch,
        tenant_id=row.tenant_id,
        tenant_name=row.tenant_name,
        time_zone=row.time_zone,
        region=row.region,
        agent_id=row.agent_id,
        agent_slug=row.agent_slug,
        agent_name=row.agent_name,
        channel=row.channel,
        engine=row.engine,
        config=row.config,
        max_seconds=row.max_seconds or options.max_call_seconds,
        puts_through=False,  # a carrier does not come back
        resume_token=token,
        can_resume=True,
    )


async def _key(connection: psycopg.AsyncConnection[Any], tenant_id: uuid.UUID) -> bytes | None:
    try:
        return await tenant_key_async(connection, tenant_id)
    except TenantKeyDeleted:
        return None


def _monotonic(at: datetime.datetime) -> float:
    """Return a time of day on this process's clock: as right as the machines' clocks are."""
    return time.monotonic() - (datetime.datetime.now(datetime.UTC) - at).total_seconds()
