"""What is left of a tenant's period while its calls go on: seconds of conversation, shared by all that talk.

A tenant's calls use up one budget, in whichever gateways they are. What is left is read again and again, for calls come
and go elsewhere, and caps are changed; in between the clock runs as fast as calls are live.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
import uuid
from typing import Any

import structlog
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool

from tenants.scope import enter_tenant_async
from voice import statements
from voice.calls import DATABASE_AWAY
from voice.options import Options
from voice.shares import connection_of

log = structlog.get_logger(__name__)

UNLIMITED_READ_SECONDS = 60.0
"""How often a tenant without an end in sight is looked at again: somebody may have set a cap."""


@dataclasses.dataclass(slots=True)
class Budget:
    """A tenant's, as this process knows it. Times are monotonic seconds."""

    calls: int = 0
    """Of this process."""
    left_seconds: float = math.inf
    live_calls: int = 1
    """Of all processes: so fast it is used up."""
    read_at: float = -math.inf
    is_unsure: bool = False
    """Something changed that nobody has counted."""

    def note(self, left_seconds: float | None, live_calls: int, at: float) -> None:
        self.left_seconds = math.inf if left_seconds is None else left_seconds
        self.live_calls = max(1, live_calls)
        self.read_at = at
        self.is_unsure = False

    def lasts(self, at: float) -> float:
        """Return for how many more seconds the calls may go on; infinite where there is no end."""
        if math.isinf(self.left_seconds):
            return math.inf
        return self.left_seconds / self.live_calls - (at - self.read_at)

    def is_due(self, at: float, every_seconds: float) -> bool:
        pause_seconds = UNLIMITED_READ_SECONDS if math.isinf(self.left_seconds) else every_seconds
        return self.is_unsure or at - self.read_at >= pause_seconds


class Budgets:
    """The budgets of the tenants that have calls in this process."""

    def __init__(self, pool: AsyncConnectionPool[Any], options: Options) -> None:
        self._pool = pool
        self._options = options
        self._of: dict[uuid.UUID, Budget] = {}

    def join(self, tenant_id: uuid.UUID, *, left_seconds: float | None, live_calls: int) -> Budget:
        """Count a call in, with what its admission found: calls that go on learn at once that there is one more.

        Args:
            live_calls: 0 where nothing was asked, as when a caller comes back: it is read soon.
        """
        budget = self._of.setdefault(tenant_id, Budget())
        budget.calls += 1
        if live_calls:
            budget.note(left_seconds, live_calls, time.monotonic())
        else:
            budget.is_unsure = True
        return budget

    def leave(self, tenant_id: uuid.UUID) -> None:
        budget = self._of[tenant_id]
        budget.calls -= 1
        if not budget.calls:
            del self._of[tenant_id]

    async def keep_reading(self) -> None:
        """Read what is left of each budget, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._options.budget_seconds))
            now = time.monotonic()
            for tenant_id, budget in list(self._of.items()):
                if budget.is_due(now, self._options.budget_seconds):
                    await self._read(tenant_id, budget)

    async def _read(self, tenant_id: uuid.UUID, budget: Budget) -> None:
        try:
            async with (
                asyncio.timeout(self._options.database_seconds),
                connection_of(self._pool, tenant_id) as connection,
                connection.transaction(),
            ):
                await enter_tenant_async(connection, tenant_id)
                cursor = connection.cursor(row_factory=namedtuple_row)
                row: Any = await (await cursor.execute(statements.BUDGET)).fetchone()
            if row is not None:
                budget.note(row.seconds_left, row.live_calls, time.monotonic())
        except DATABASE_AWAY as problem:
            # The clock runs on with what was known.
            log.warning("database.away", problem=repr(problem))
        except Exception:
            log.exception("budget.not_read")
