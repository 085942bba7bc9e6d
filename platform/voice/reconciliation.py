"""Do the ledgers, the calls and what is added up from them agree? Looks, and mends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connections

from billing.sealing import broken_seals
from tenants.differences import Difference
from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias
from voice import ledger_days
from voice.models import GOOD_ENDS

MOST_TOLD = 100
"""Of one kind of difference: who has more has another question."""

CALLS_AND_USAGE = """
    SELECT coalesce(call.id, usage.call_id), ceil(call.duration_ms / 1000.0)::bigint, usage.quantity
    FROM (SELECT * FROM voice_call WHERE tenant_id = %(tenant_id)s AND status = 'ended') call
    FULL JOIN (
        SELECT call_id, quantity FROM billing_usage
        WHERE tenant_id = %(tenant_id)s AND idempotency_key = 'call:' || call_id
    ) usage ON usage.call_id = call.id
    WHERE coalesce(ceil(call.duration_ms / 1000.0), 0)::bigint IS DISTINCT FROM coalesce(usage.quantity, 0)
    LIMIT %(most)s
"""
CALLS_AND_COSTS = """
    SELECT call.id, call.cost_nano_dollars, coalesce(sum(entry.nano_dollars), 0)
    FROM voice_call call
    LEFT JOIN provisioning_costentry entry ON entry.tenant_id = call.tenant_id AND entry.call_id = call.id
        AND entry.part = 'active' AND entry.source = 'estimate'
    WHERE call.tenant_id = %(tenant_id)s AND call.status = 'ended'
    GROUP BY call.id HAVING call.cost_nano_dollars <> coalesce(sum(entry.nano_dollars), 0)
    LIMIT %(most)s
"""
SESSIONS_WITHOUT_COST = """
    SELECT session.call_id, session.id FROM voice_session session
    JOIN voice_call call ON call.id = session.call_id AND call.status = 'ended'
    LEFT JOIN provisioning_costentry entry ON entry.tenant_id = session.tenant_id AND entry.call_id = session.call_id
        AND entry.session_id = session.id AND entry.part = 'active'
    WHERE session.tenant_id = %(tenant_id)s AND entry.id IS NULL
    LIMIT %(most)s
"""
WRONG_CALL_DAYS = """
    SELECT coalesce(kept.day_date, counted.day_date), kept.calls, counted.calls
    FROM (SELECT * FROM voice_callday WHERE tenant_id = %(tenant_id)s) kept
    FULL JOIN (
        SELECT (call.started_at AT TIME ZONE tenant.time_zone)::date AS day_date, call.agent_id, count(*) AS calls,
            count(*) FILTER (WHERE call.end_reason <> ALL(%(good_ends)s)) AS failed_calls,
            sum(call.duration_ms) AS duration_ms, sum(call.turns_count) AS turns,
            sum(call.cost_nano_dollars) AS cost_nano_dollars
        FROM voice_call call JOIN tenants_tenant tenant ON tenant.id = call.tenant_id
        WHERE call.tenant_id = %(tenant_id)s AND call.status = 'ended' GROUP BY 1, 2
    ) counted USING (day_date, agent_id)
    WHERE (kept.calls, kept.failed_calls, kept.duration_ms, kept.turns, kept.cost_nano_dollars) IS DISTINCT FROM
        (counted.calls, counted.failed_calls, counted.duration_ms, counted.turns, counted.cost_nano_dollars)
    LIMIT %(most)s
"""


def differences() -> Iterator[Difference]:
    """Compare everything of the entered tenant."""
    yield from broken_seals()
    for call_id, seconds, entered in _rows(CALLS_AND_USAGE):
        if seconds is None:
            yield Difference(f"call {call_id}", f"{entered} s are in the usage ledger, and there is no such ended call")
        else:
            yield Difference(f"call {call_id}", f"lasted {seconds} s, and the usage ledger has {entered or 0} s")
    for call_id, kept, entered in _rows(CALLS_AND_COSTS):
        told = f"is said to cost {kept} nano-dollars, and the entries of its sessions are {entered}"
        yield Difference(f"call {call_id}", told)
    for call_id, session_id in _rows(SESSIONS_WITHOUT_COST):
        yield Difference(f"call {call_id}", f"its session {session_id} has no entry in the ledger of costs")
    for source in ledger_days.SOURCES:
        if (until := ledger_days.sealed_until(source.ledger)) is not None:
            for day_date, kind, kept, entered in ledger_days.wrong_days(source, until):
                yield Difference(f"{day_date}, {kind}", f"{kept or 0} were added up, and the ledger has {entered or 0}")
    for day_date, kept, counted in _rows(WRONG_CALL_DAYS):
        told = f"{kept or 0} calls were added up, {counted or 0} are there, and their figures differ"
        yield Difference(f"{day_date}, calls", told)


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connections[current_alias()].cursor() as cursor:
        good_ends = [end.value for end in GOOD_ENDS]
        values: dict[str, Any] = {"tenant_id": entered_tenant_id(), "most": MOST_TOLD, "good_ends": good_ends}
        cursor.execute(statement, values)
        return cursor.fetchall()
