"""What a call cost: a provisional entry for each of its sessions when it ends; later shares come to the same ledger."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from provisioning.costs import Interval, provisional_cost
from provisioning.models import CostEntry
from provisioning.spending import record_session_cost
from voice import statements


async def record_charges(connection: psycopg.AsyncConnection[Any], *, call_id: uuid.UUID, tenant_id: uuid.UUID) -> int:
    """Enter the provisional cost of a call's ended sessions, keep their sum with the call, and return nano-dollars."""
    cursor = connection.cursor(row_factory=namedtuple_row)
    await cursor.execute(statements.SESSIONS_TO_CHARGE, {"id": call_id})
    total = 0
    session: Any
    for session in await cursor.fetchall():
        held = Interval(0, session.active_ms)
        others = [Interval(begin, end) for begin, end in zip(session.others_begin, session.others_end, strict=True)]
        cost = provisional_cost(held, others, session.rate_nano_dollars_per_second)
        total += cost
        await record_session_cost(
            connection,
            tenant_id=tenant_id,
            call_id=call_id,
            session_id=session.id,
            pool_id=session.pool_id,
            deployment_id=session.deployment_id,
            container=session.container,
            held_milliseconds=session.active_ms,
            rate_nano_dollars_per_second=session.rate_nano_dollars_per_second,
            nano_dollars=cost,
            ended_at=session.ended_at,
        )
    if total:
        await connection.execute(statements.SET_COST, {"id": call_id, "cost_nano_dollars": total})
    return total


def charges_of(call_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return the ledger's entries of a call of the entered tenant, oldest first. JSON values only."""
    return [
        {
            "part": entry.part,
            "nano_dollars": entry.nano_dollars,
            "milliseconds": entry.milliseconds,
            "rate_nano_dollars_per_second": entry.rate_nano_dollars_per_second,
            "container": entry.container,
            "source": entry.source,
        }
        for entry in CostEntry.objects.of_call(call_id).order_by("recorded_at")
    ]
