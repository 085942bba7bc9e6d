"""Checkpoints of calls in which nothing happens: the counters of all calls that are due, tenant by tenant.

What happens in a call, its turns and words, is written for that call alone (see voice.calls). Were its counters too,
a process full of quiet calls would spend more on them than on their audio.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import structlog
from psycopg_pool import AsyncConnectionPool

from tenants.scope import enter_tenant_async
from voice import live, statements
from voice.calls import DATABASE_AWAY, checkpoint_values, fences_of, figures_of, session_values
from voice.ongoing import OngoingCall
from voice.options import Options

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
MOST_AT_ONCE = 20
"""More would hold up the audio of others for longer than anybody should notice."""


class QuietCalls:
    """The calls of this process, each to be written once it has had no checkpoint for a while."""

    def __init__(self, pool: AsyncConnectionPool[Any], options: Options) -> None:
        self._pool = pool
        self._options = options
        self._calls: set[OngoingCall] = set()

    def add(self, call: OngoingCall) -> None:
        self._calls.add(call)

    def remove(self, call: OngoingCall) -> None:
        self._calls.discard(call)

    async def keep_writing(self) -> None:
        """Write what is due until cancelled."""
        while True:
            tick_seconds = min(TICK_SECONDS, self._options.checkpoint_seconds / 2)
            await asyncio.sleep(tick_seconds)
            # What would be due before the next look is due now: a killed gateway loses no more than it says.
            due_since = time.monotonic() - self._options.checkpoint_seconds + tick_seconds
            due = [call for call in self._calls if call.written <= due_since and call.ended is None]
            due.sort(key=lambda call: (call.tenant_id, call.call_id))
            for tenant_id, calls in itertools.groupby(due, key=lambda call: call.tenant_id):
                while some := list(itertools.islice(calls, MOST_AT_ONCE)):
                    await self._write(tenant_id, some)
                    live.announce(tenant_id, "turn", figures_of(some[0]))

    async def _write(self, tenant_id: uuid.UUID, calls: Sequence[OngoingCall]) -> None:
        try:
            async with asyncio.timeout(self._options.database_seconds):
                await self._write_once(tenant_id, calls)
        except DATABASE_AWAY as problem:
            # Nothing is lost: the next checkpoint writes it too.
            log.warning("database.away", problem=repr(problem))
        except Exception:
            log.exception("checkpoint.failed")

    async def _write_once(self, tenant_id: uuid.UUID, calls: Sequence[OngoingCall]) -> None:
        at = time.monotonic()
        sessions = [
            {name: values[name] for name in ("id", "call_id", "epoch", "active_ms")}
            for call in calls
            for session in call.sessions
            for values in [session_values(call, session)]
        ]
        async with self._pool.connection() as connection, connection.transaction(), connection.pipeline():
            await enter_tenant_async(connection, tenant_id)
            written = await connection.execute(
                statements.CHECKPOINT_CALLS, {"calls": _documents([checkpoint_values(call) for call in calls])}
            )
            await connection.execute(statements.CHECKPOINT_SESSIONS, {"sessions": _documents(sessions)})
            await connection.execute(
                statements.KEEP_LINES,
                {"call_ids": [call.call_id for call in calls], "seconds": self._options.lease_seconds},
            )
            standing = {row[0] for row in await written.fetchall()}
            gone = [call.call_id for call in calls if call.call_id not in standing]
            fences = await fences_of(connection, gone) if gone else {}
        for call in calls:
            call.written = at
            if call.call_id in fences:
                log.warning("call.fenced", call_id=str(call.call_id), fence=fences[call.call_id].name.lower())
                call.fence(fences[call.call_id])


def _documents(rows: Sequence[dict[str, Any]]) -> str:
    return json.dumps(rows, default=str)
