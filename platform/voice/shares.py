"""The database pool's connections, shared among tenants: one tenant's calls may hold at most half of them at a time.

When a tenant's calls all end at once their ends are written one after the other, for they change the same rows; other
tenants' callers must not wait behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
import weakref
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

_Share = weakref.WeakValueDictionary[uuid.UUID, asyncio.Semaphore]
_shares: weakref.WeakKeyDictionary[AsyncConnectionPool[Any], _Share] = weakref.WeakKeyDictionary()


_MOST_ENDS = 2
"""Of one tenant at a time: they change the same row of its day anyway."""
_ends: weakref.WeakKeyDictionary[AsyncConnectionPool[Any], _Share] = weakref.WeakKeyDictionary()


@contextlib.asynccontextmanager
async def turn_to_end(pool: AsyncConnectionPool[Any], tenant_id: uuid.UUID) -> AsyncIterator[None]:
    """Wait in the tenant's own line for the ends of its calls, before the line that is everybody's."""
    line = _ends.setdefault(pool, weakref.WeakValueDictionary()).setdefault(tenant_id, asyncio.Semaphore(_MOST_ENDS))
    async with line:
        yield


@contextlib.asynccontextmanager
async def connection_of(
    pool: AsyncConnectionPool[Any], tenant_id: uuid.UUID
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Hold a connection of the pool for what one tenant's call has to write."""
    shares = _shares.setdefault(pool, weakref.WeakValueDictionary())
    share = shares.setdefault(tenant_id, asyncio.Semaphore(max(1, pool.max_size // 2)))
    async with share, pool.connection() as connection:
        yield connection
