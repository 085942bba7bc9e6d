"""The gateway's connections after the database was away."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from config.pool import gateway_pool
from tests.voice.wire import wire_to

HELD = 8
IN_TIME_SECONDS = 2.5
"""Found broken one by one, so many connections would take longer than the pool lets anybody wait."""


async def test_when_the_database_is_back_the_first_to_ask_has_a_connection() -> None:
    url = urlsplit(settings.DATABASE_URL)
    async with wire_to(url.port or 5432) as (wire, port):
        through_the_wire = urlunsplit(url._replace(netloc=f"{url.netloc.rpartition(':')[0]}:{port}"))
        async with gateway_pool(through_the_wire) as pool:
            async with asyncio.TaskGroup() as many:
                together = asyncio.Barrier(HELD)
                for _ in range(HELD):
                    many.create_task(_hold_one(pool, together))
            wire.cut()
            await asyncio.sleep(0.1)
            wire.mend()
            async with asyncio.timeout(IN_TIME_SECONDS), pool.connection() as connection:
                answer = await (await connection.execute("SELECT 1")).fetchone()
    assert answer == (1,)


async def _hold_one(pool, together) -> None:
    async with pool.connection():
        await together.wait()
