"""Where callers come in: crowds are refused before they cost anything, and hold up nobody but themselves.

What may begin a call is voice.admission. See also: docs/gateway.md, which lists the limits.
"""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from typing import Any

from psycopg_pool import AsyncConnectionPool

from gpu_workers.protocol import CloseCode
from voice.admission import Admitted, Crowded, Refused, Request, admit
from voice.options import Options
from voice.rates import Rates

QUEUE_SECONDS = 15.0
"""How long a caller waits behind others of the same tenant who came at the same time."""


class Doors:
    """Of one process. Of a tenant's callers, one at a time waits with a connection of the pool in its hands.

    Who finds others of the tenant's before him waits here, in memory: the connections are for other tenants' callers.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], options: Options) -> None:
        self._pool = pool
        self._options = options
        self._addresses: Rates[str] = Rates(options.address_calls_per_minute)
        self._public_keys: Rates[str] = Rates(options.tenant_calls_per_minute)
        """Of what comes with tickets, each is known to have been asked for."""
        self._queues: weakref.WeakValueDictionary[uuid.UUID, asyncio.Lock] = weakref.WeakValueDictionary()

    async def admit(self, request: Request, *, callers: int) -> Admitted:
        """Decide on a request and open its call. `callers`: how many this process serves, with this one.

        Raises:
            Refused
            psycopg.Error, TimeoutError: the database cannot be reached.
        """
        self.refuse_crowds(request, callers=callers)
        try:
            async with asyncio.timeout(self._options.database_seconds):
                return await admit(self._pool, request, self._options, wait=False)
        except Crowded as crowd:
            queue = self._queues.setdefault(crowd.tenant_id, asyncio.Lock())
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await queue.acquire()
        except TimeoutError:
            raise Refused(CloseCode.TRY_AGAIN_LATER) from None
        try:
            async with asyncio.timeout(self._options.database_seconds):
                return await admit(self._pool, request, self._options, wait=True)
        finally:
            queue.release()

    def refuse_crowds(self, request: Request, *, callers: int) -> None:
        """Refuse whom there is no room for, and who asks too often; the database is not asked.

        Raises:
            Refused
        """
        at = time.monotonic()
        if not self._addresses.take(request.address, at):
            raise Refused(CloseCode.RATE_LIMITED)
        if self._options.most_calls and callers > self._options.most_calls:
            raise Refused(CloseCode.TRY_AGAIN_LATER)
        if request.kind == "public_key" and not self._public_keys.take(request.secret, at):
            raise Refused(CloseCode.RATE_LIMITED)
