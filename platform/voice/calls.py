"""Writing a call: checkpoints while it lasts, and its end with usage and cost, once.

The gateway and the sweeper close calls through the same function; the epoch decides between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
import structlog
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from content.keys import TenantKeyDeleted, tenant_key_async
from content.transcripts import append_lines
from gpu_workers.protocol import CloseCode
from tenants.scope import enter_tenant_async
from voice import live, statements
from voice.charges import record_charges
from voice.endings import Ending
from voice.held import HeldSession
from voice.models import GOOD_ENDS, EndReason
from voice.ongoing import Fence, OngoingCall
from voice.options import Options
from voice.shares import connection_of, turn_to_end
from voice.times import TurnTimes

log = structlog.get_logger(__name__)

DATABASE_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, TimeoutError)
"""What comes of a database that is restarting, cannot be reached or does not answer: worth trying again."""

# News of one call are written, and pages told, at most once in so many seconds.
NEWS_PAUSE_SECONDS = 1.0
# What comes together is written together: a worker says right after its handshake how its container came to be.
NEWS_SETTLE_SECONDS = 0.05
FIRST_RETRY_SECONDS = 0.1


class Fenced(Exception):
    """Another writer has taken or closed this call: its epoch has moved on."""

    def __init__(self, fence: Fence = Fence.CLOSED) -> None:
        super().__init__(fence)
        self.fence = fence


async def keep_writing(
    pool: AsyncConnectionPool[Any], call: OngoingCall, options: Options, few_at_once: asyncio.Semaphore
) -> None:
    """Write a checkpoint soon after there is news, until cancelled. See also voice.checkpoints.

    Args:
        few_at_once: leaves connections for callers who come, come back and hang up: they wait, and news can.
    """
    while call.fenced is None:
        await call.news.wait()
        await asyncio.sleep(NEWS_SETTLE_SECONDS)
        pause_seconds = options.checkpoint_seconds
        try:
            async with few_at_once:
                await save_checkpoint(pool, call, options)
            live.announce(call.tenant_id, "turn", figures_of(call))
            pause_seconds = NEWS_PAUSE_SECONDS
        except Fenced as fenced:
            log.warning("call.fenced", fence=fenced.fence.name.lower())
            call.fence(fenced.fence)
        except DATABASE_AWAY as problem:
            # Nothing is lost: the next checkpoint writes it too.
            log.warning("database.away", problem=repr(problem))
        except Exception:
            log.exception("checkpoint.failed")
        await asyncio.sleep(pause_seconds)


async def save_checkpoint(pool: AsyncConnectionPool[Any], call: OngoingCall, options: Options) -> None:
    """Write what is known of a call so far, and renew its line.

    Raises:
        Fenced
        psycopg.Error, TimeoutError: the database cannot be reached; nothing is forgotten.
    """
    async with asyncio.timeout(options.database_seconds), connection_of(pool, call.tenant_id) as connection:
        unsaved = call.take_news()
        try:
            async with connection.pipeline(), connection.transaction():
                await _write_checkpoint(connection, call, unsaved, options)
        except BaseException:
            call.give_back(unsaved)
            raise
        call.written = time.monotonic()


async def _write_checkpoint(
    connection: psycopg.AsyncConnection[Any], call: OngoingCall, unsaved: Any, options: Options
) -> None:
    """Inside a transaction, of which nothing waits for the database until its first answer is needed."""
    await enter_tenant_async(connection, call.tenant_id)
    await _seal(connection, call)
    written = await connection.execute(statements.CHECKPOINT, checkpoint_values(call))
    for turn in unsaved.turns:
        await connection.execute(statements.SAVE_TURN, _turn_values(call, turn))
    for session in call.sessions:
        await connection.execute(statements.SAVE_SESSION, session_values(call, session))
    await connection.execute(
        statements.TAKE_LINE,
        {"tenant_id": call.tenant_id, "call_id": call.call_id, "seconds": options.lease_seconds},
    )
    if await written.fetchone() is None:
        raise Fenced((await fences_of(connection, [call.call_id]))[call.call_id])
    await append_lines(connection, tenant_id=call.tenant_id, call_id=call.call_id, lines=unsaved.lines)


async def fences_of(connection: psycopg.AsyncConnection[Any], call_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Fence]:
    """Return what others did with calls of the entered tenant whose epoch has moved on."""
    rows = await (await connection.execute(statements.STATUS_OF, {"ids": list(call_ids)})).fetchall()
    going_on = {call_id for call_id, status in rows if status != "ended"}
    return {call_id: Fence.TAKEN if call_id in going_on else Fence.CLOSED for call_id in call_ids}


async def _seal(connection: psycopg.AsyncConnection[Any], call: OngoingCall) -> None:
    """Encrypt how new sessions are reached, where another gateway may have to."""
    unsealed = [each for each in call.sessions if each.sealed is None and each.reach is not None]
    if not unsealed or not call.can_resume:
        return
    with contextlib.suppress(TenantKeyDeleted):
        key = await tenant_key_async(connection, call.tenant_id)
        for session in unsealed:
            assert session.reach is not None
            session.sealed = session.reach.seal(key, session.id)


async def close_call(
    pool: AsyncConnectionPool[Any], call: OngoingCall, ending: Ending, options: Options, few_at_once: asyncio.Semaphore
) -> None:
    """Write the end of a call with its last checkpoint, usage and provisional cost, in one transaction.

    Tries again while the database is away; after `close_retry_seconds` the sweeper's turn comes.
    """
    deadline, pause = time.monotonic() + options.close_retry_seconds, FIRST_RETRY_SECONDS
    while True:
        try:
            async with turn_to_end(pool, call.tenant_id), few_at_once:
                await _close_once(pool, call, ending, options)
        except Fenced as fenced:
            log.warning("call.was_closed_by_another")
            if fenced.fence is Fence.TAKEN:
                call.fence(Fence.TAKEN)  # it goes on, and its place is not ours to give back
                return
        except DATABASE_AWAY as problem:
            if time.monotonic() > deadline:
                log.error("call.left_to_the_sweeper", problem=str(problem))
                return
            log.warning("database.away", problem=repr(problem))
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)
            continue
        except Exception:
            if not call.has_news:
                raise
            # A line that cannot be written must not keep the call from ending.
            log.exception("call.news_lost")
            call.take_news()
            continue
        live.announce(call.tenant_id, "ended", {**figures_of(call), "end_reason": ending.reason.value})
        return


async def hand_over_call(pool: AsyncConnectionPool[Any], call: OngoingCall, options: Options) -> None:
    """Write the last checkpoint of a call that another gateway goes on with.

    Tries again while the database is away, not for long: the caller waits, and the checkpoint before will do.
    """
    deadline, pause = time.monotonic() + options.database_seconds, FIRST_RETRY_SECONDS
    while True:
        try:
            return await save_checkpoint(pool, call, options)
        except Fenced:
            return
        except DATABASE_AWAY as problem:
            if time.monotonic() > deadline:
                log.error("call.handed_over_from_its_last_checkpoint", problem=str(problem))
                return
            log.warning("database.away", problem=repr(problem))
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)


async def _close_once(pool: AsyncConnectionPool[Any], call: OngoingCall, ending: Ending, options: Options) -> None:
    async with asyncio.timeout(options.database_seconds), connection_of(pool, call.tenant_id) as connection:
        unsaved = call.take_news()
        try:
            async with connection.pipeline(), connection.transaction():
                await _write_checkpoint(connection, call, unsaved, options)
                await end_call(
                    connection,
                    call_id=call.call_id,
                    tenant_id=call.tenant_id,
                    epoch=call.epoch,
                    reason=ending.reason,
                    close_code=ending.close_code,
                    ended_at=call.ended_at,
                )
        except BaseException:
            call.give_back(unsaved)
            raise


async def end_call(
    connection: psycopg.AsyncConnection[Any],
    *,
    call_id: uuid.UUID,
    tenant_id: uuid.UUID,
    epoch: int,
    reason: EndReason,
    close_code: CloseCode | None,
    ended_at: datetime.datetime | None,
    quiet_since: datetime.datetime | None = None,
) -> None:
    """End a call as it stands in the database: usage, cost, its line and its day. Inside a transaction.

    Args:
        ended_at: None for the time of its last checkpoint.
        quiet_since: end it only if it has no checkpoint since.

    Raises:
        Fenced: it was closed before, or another epoch holds it.
    """
    await enter_tenant_async(connection, tenant_id)
    found = await connection.cursor(row_factory=namedtuple_row).execute(
        statements.CLOSE_CALL,
        {
            "id": call_id,
            "epoch": epoch,
            "end_reason": reason.value,
            "ended_at": ended_at,
            "quiet_since": quiet_since,
            "close_code": None if close_code is None else int(close_code),
        },
    )
    closed: Any = await found.fetchone()
    if closed is None:
        raise Fenced
    await connection.execute(statements.END_SESSIONS, {"id": call_id, "end_reason": reason.value})
    await record_charges(connection, call_id=call_id, tenant_id=tenant_id)
    if seconds := -(-closed.duration_ms // 1000):  # a begun second counts
        await connection.execute(
            statements.RECORD_USAGE,
            {
                "id": uuid.uuid4(),
                "tenant_id": tenant_id,
                "seconds": seconds,
                "call_id": call_id,
                "occurred_at": closed.ended_at,
                "key": f"call:{call_id}",
            },
        )
    await connection.execute(statements.FREE_LINE, {"id": call_id})
    await connection.execute(statements.KEEP_DAYS, {"tenant_id": tenant_id})
    await connection.execute(
        statements.ADD_TO_DAY, {"id": call_id, "good_ends": [reason.value for reason in GOOD_ENDS]}
    )


def figures_of(call: OngoingCall) -> dict[str, Any]:
    turn = call.last_turn
    return {
        "id": str(call.call_id),
        "turns": call.turns_count,
        "turn_ms": turn.turn_ms if turn else None,
        "first_audio_ms": call.first_audio_ms,
        "duration_ms": call.duration_ms,
    }


def checkpoint_values(call: OngoingCall) -> dict[str, Any]:
    session, opening = call.session, call.opening or call.session
    return {
        "id": call.call_id,
        "epoch": call.epoch,
        "status": "opening" if call.ready_ms is None else "live",
        "region": call.region,
        "pool_id": session and session.pool_id,
        "deployment_id": session and session.deployment_id,
        "setup_ms": call.setup_ms,
        "reserve_ms": opening and opening.reserve_ms,
        "connect_ms": opening and opening.connect_ms,
        "ready_ms": call.ready_ms,
        "first_audio_ms": call.first_audio_ms,
        "duration_ms": call.duration_ms,
        "gateway_ms_p50": call.delays.percentile(0.5),
        "gateway_ms_p99": call.delays.percentile(0.99),
        "boot": opening.boot if opening else "",
        "boot_ms": opening and opening.boot_ms,
        "turns_count": call.turns_count,
        "audio_in_messages": call.from_caller.messages,
        "audio_in_bytes": call.from_caller.bytes,
        "audio_out_messages": call.from_worker.messages,
        "audio_out_bytes": call.from_worker.bytes,
        "discarded_messages": call.from_caller.discarded + call.from_worker.discarded,
        "failovers": call.failovers,
        "resumes": call.resumes,
        "longest_gap_ms": call.clock.longest_gap_ms,
        "spent_token_is_void": call.spent_token_is_void,
        "refused_places": Jsonb(call.refused_places),
    }


def _turn_values(call: OngoingCall, turn: TurnTimes) -> dict[str, Any]:
    return {
        "id": uuid.uuid4(),
        "tenant_id": call.tenant_id,
        "call_id": call.call_id,
        "index": turn.index,
        "at_ms": turn.at_ms,
        "turn_ms": turn.turn_ms,
        "other_ms": turn.other_ms,
        **{f"{part}_ms": value for part, value in turn.parts_ms.items()},
    }


def session_values(call: OngoingCall, session: HeldSession) -> dict[str, Any]:
    active_ms = session.active_ms(time.monotonic())
    return {
        "id": session.id,
        "role": session.role,
        "tenant_id": call.tenant_id,
        "call_id": call.call_id,
        "epoch": call.epoch,
        "pool_id": session.pool_id,
        "deployment_id": session.deployment_id,
        "region": session.region,
        "container": session.container,
        "backend_ref": session.backend_ref,
        "rate_nano_dollars_per_second": session.rate_nano_dollars_per_second,
        "granted_at": session.granted_at,
        "ended_at": None if session.ended is None else session.granted_at + datetime.timedelta(milliseconds=active_ms),
        "reserve_ms": session.reserve_ms,
        "connect_ms": session.connect_ms,
        "active_ms": active_ms,
        "boot": session.boot,
        "boot_ms": session.boot_ms,
        "why_ended": session.why_ended,
        "gap_ms": session.gap_ms,
        "reach": session.sealed if session.ended is None else None,
    }
