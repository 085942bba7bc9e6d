"""What beat drives for calls: closing those whose gateway is gone, and clearing away what has expired."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from typing import Any

import psycopg
import structlog
from celery import shared_task
from django.conf import settings
from psycopg.rows import namedtuple_row

from tenants.tasks import every
from voice import keeping, ledger_days, live, statements
from voice.calls import Fenced, end_call
from voice.models import EndReason
from voice.options import Options
from voice.telephony import clips, outbound, prices, sweeping  # noqa: F401  (their tasks are found from here)

log = structlog.get_logger(__name__)

MARGIN_SECONDS = 30.0
"""A call without a checkpoint for so much longer than its caller has to come back has lost its gateway for good."""
TICKETS_KEPT_DAYS = 1
RECORDINGS_SECONDS = 10.0
BEAT_SCHEDULE = {
    **sweeping.BEAT_SCHEDULE,
    **clips.BEAT_SCHEDULE,
    "sweep calls": every(15.0, "voice.sweep_calls"),
    "make recordings": every(RECORDINGS_SECONDS, "voice.make_recordings"),
    "delete recordings": every(3600.0, "voice.delete_recordings"),
    "roll up ledgers": every(300.0, "voice.roll_up_ledgers"),
}


@shared_task(name="voice.sweep_calls")
def sweep_calls() -> int:
    """Close orphaned calls from their last checkpoint, and return how many. Crosses tenants, as the operator's role."""
    return asyncio.run(sweep(window_seconds=Options.from_environment().resume_seconds + MARGIN_SECONDS))


@shared_task(name="voice.make_recordings")
def make_recordings() -> int:
    """Queue a task for each recording of which no file was made yet, and return how many."""
    due = keeping.due_recordings()
    for tenant_id, call_id in due:
        make_recording.apply_async(
            kwargs={"tenant_id": str(tenant_id), "call_id": str(call_id)}, expires=RECORDINGS_SECONDS
        )
    return len(due)


@shared_task(name="voice.make_recording")
def make_recording(*, tenant_id: str, call_id: str) -> bool:
    """Make the playable file of one recording. Who comes second finds it taken."""
    return keeping.make_recording(uuid.UUID(tenant_id), uuid.UUID(call_id))


@shared_task(name="voice.delete_recordings")
def delete_recordings() -> int:
    """Delete recordings whose time has come, and return how many."""
    return keeping.delete_expired_recordings()


@shared_task(name="voice.roll_up_ledgers")
def roll_up_ledgers() -> int:
    """Add up by day what was sealed of the ledgers. See also: billing.seal_ledgers."""
    return ledger_days.roll_up_all()


async def sweep(*, window_seconds: float) -> int:
    """Close calls that have had no checkpoint for so long; clear away expired lines and tickets."""
    quiet_since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=window_seconds)
    async with await psycopg.AsyncConnection.connect(
        settings.DATABASE_OPERATOR_URL, autocommit=True, row_factory=namedtuple_row
    ) as connection:
        found = await connection.execute(statements.ORPHANED_CALLS, {"quiet_since": quiet_since})
        closed = 0
        for call in await found.fetchall():
            closed += await _close_orphan(connection, call, quiet_since)
        await connection.execute(statements.FREE_EXPIRED_LINES)
        await connection.execute(statements.FORGET_TICKETS, {"days": TICKETS_KEPT_DAYS})
    if closed:
        log.warning("calls.swept", closed=closed)
    return closed


async def _close_orphan(connection: psycopg.AsyncConnection[Any], call: Any, quiet_since: datetime.datetime) -> bool:
    try:
        async with connection.transaction():
            await end_call(
                connection,
                call_id=call.id,
                tenant_id=call.tenant_id,
                epoch=call.epoch,
                reason=EndReason.GATEWAY_LOST,
                close_code=None,
                ended_at=None,
                quiet_since=quiet_since,
            )
    except Fenced:
        # Its gateway was only slow.
        return False
    except psycopg.Error:
        log.exception("call.not_swept", call_id=str(call.id))
        return False
    await live.send_now(call.tenant_id, "ended", {"id": str(call.id), "end_reason": EndReason.GATEWAY_LOST.value})
    return True
