"""Hearing at once that another gateway has taken a call over, so that its worker is let go of.

Only sooner: without this word the next checkpoint finds that the epoch has moved on.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

import psycopg
import structlog

CHANNEL = "warmline_calls"
RECONNECT_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def hear_takeovers(database_url: str, taken: Callable[[uuid.UUID, int], None]) -> None:
    """Call `taken` with the call's id and its new epoch, until cancelled."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                database_url, autocommit=True, application_name="warmline gateway takeovers"
            ) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                async for notification in connection.notifies():
                    call_id, _, epoch = notification.payload.partition(" ")
                    taken(uuid.UUID(call_id), int(epoch))
        except psycopg.Error as problem:
            log.warning("database.away", problem=repr(problem))
        await asyncio.sleep(RECONNECT_SECONDS)
