"""The gateway's connections to the database, and how they come back after it was away."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

ABANDONED_SECONDS = 10
TIMEOUT_SECONDS = 5.0
RECONNECT_SECONDS = 5.0
"""Who needs a connection then tries anew: pauses between tries double, and would outlast the resume window."""


def gateway_pool(database_url: str) -> AsyncConnectionPool[Any]:
    """Return a pool, not yet open, that gives only connections which the database answers."""

    async def check(connection: psycopg.AsyncConnection[Any]) -> None:
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


async def _limit_transactions(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let the database end a transaction that its gateway has left standing, and with it the tenant's lock."""
    await connection.execute(f"SET idle_in_transaction_session_timeout = '{ABANDONED_SECONDS}s'")
