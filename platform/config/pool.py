"""The gateway's connections to the database, and how they come back after it was away."""

from __future__ import annotations

import asyncio
import select
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

ABANDONED_SECONDS = 10
TIMEOUT_SECONDS = 5.0
RECONNECT_SECONDS = 5.0
"""Who needs a connection then tries anew: pauses between tries double, and would outlast the resume window."""


def gateway_pool(database_url: str) -> AsyncConnectionPool[Any]:
    """Return a pool, not yet open, whose connections are looked at before they are given: asking would cost a trip."""

    async def check(connection: psycopg.AsyncConnection[Any]) -> None:
        if _is_quiet(connection.pgconn.socket):
            return
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            # After a restart all that wait here are broken. The pool would find out one by one, and pause longer
            # after each: with a handful of them nobody would have a connection in time.
            await asyncio.shield(pool.drain())
            raise

    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        database_url,
        min_size=2,
        max_size=10,
        timeout=TIMEOUT_SECONDS,
        reconnect_timeout=RECONNECT_SECONDS,
        configure=_limit_transactions,
        check=check,
        open=False,
        kwargs={"autocommit": True, "application_name": "warmline gateway"},
        name="gateway",
    )
    return pool


def _is_quiet(socket: int) -> bool:
    """Return whether nothing came on an idle connection: what a server that closes has said last waits to be read."""
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return not poll.poll(0)


async def _limit_transactions(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let the database end a transaction that its gateway has left standing, and with it the tenant's lock."""
    await connection.execute(f"SET idle_in_transaction_session_timeout = '{ABANDONED_SECONDS}s'")
