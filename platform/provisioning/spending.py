"""Writing to the ledger of costs with plain SQL, inside an entered tenant. See also `provisioning.models.CostEntry`."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import psycopg

RECORD_COST = """
    INSERT INTO provisioning_costentry (
        id, tenant_id, pool_id, deployment_id, container, call_id, session_id, part, milliseconds,
        rate_nano_dollars_per_second, nano_dollars, source, occurred_at, recorded_at, idempotency_key
    ) VALUES (
        %(id)s, %(tenant_id)s, %(pool_id)s, %(deployment_id)s, %(container)s, %(call_id)s, %(session_id)s, %(part)s,
        %(milliseconds)s, %(rate_nano_dollars_per_second)s, %(nano_dollars)s, %(source)s, %(occurred_at)s,
        clock_timestamp(), %(idempotency_key)s
    ) ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
"""


def session_cost_key(session_id: uuid.UUID) -> str:
    """Return the idempotency key of a session's active cost: it is charged once."""
    return f"session:{session_id}:active"


async def record_session_cost(
    connection: psycopg.AsyncConnection[Any],
    *,
    tenant_id: uuid.UUID,
    call_id: uuid.UUID,
    session_id: uuid.UUID,
    pool_id: uuid.UUID,
    deployment_id: uuid.UUID,
    container: str,
    held_milliseconds: int,
    rate_nano_dollars_per_second: int,
    nano_dollars: int,
    ended_at: datetime.datetime,
) -> None:
    """Record the provisional cost of a session that has ended, once, in the tenant that called.

    Settling the container later reads from this row when the session was there: from `ended_at` back by
    `held_milliseconds`. `nano_dollars`: as `provisioning.costs.provisional_cost` says.
    """
    await connection.execute(
        RECORD_COST,
        {
            "id": uuid.uuid4(),
            "tenant_id": tenant_id,
            "pool_id": pool_id,
            "deployment_id": deployment_id,
            "container": container,
            "call_id": call_id,
            "session_id": session_id,
            "part": "active",
            "milliseconds": held_milliseconds,
            "rate_nano_dollars_per_second": rate_nano_dollars_per_second,
            "nano_dollars": nano_dollars,
            "source": "estimate",
            "occurred_at": ended_at,
            "idempotency_key": session_cost_key(session_id),
        },
    )
