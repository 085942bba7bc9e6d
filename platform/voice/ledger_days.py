"""The ledgers added up by day and agent: what margins and statements read, made from sealed entries alone.

An entry may come days after what it is for. Each time seals were set, the days of their entries are added up anew.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any

from django.db import connections

from billing.models import LedgerSeal
from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias, enter_tenant
from voice.models import LedgerDay, LedgerMark


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a ledger's days come from: its table, and what its kinds and amounts are called there."""

    ledger: str
    table: str
    kind: str
    amount: str


SOURCES = (
    Source("usage", "billing_usage", "kind", "quantity"),
    Source("cost", "provisioning_costentry", "part", "nano_dollars"),
)

_DAY_OF = "(entry.occurred_at AT TIME ZONE tenant.time_zone)::date"
_SUMS = f"""
    SELECT entry.tenant_id, {_DAY_OF} AS day_date, call.agent_id, entry.{{kind}} AS kind, count(*) AS entries,
        sum(entry.{{amount}}) AS amount
    FROM {{table}} entry
    JOIN tenants_tenant tenant ON tenant.id = entry.tenant_id
    LEFT JOIN voice_call call ON call.id = entry.call_id
    WHERE entry.tenant_id = %(tenant_id)s AND entry.recorded_at < %(until)s
"""
_TOUCHED = f"""
    SELECT min(entry.occurred_at), array_agg(DISTINCT {_DAY_OF}) FROM {{table}} entry
    JOIN tenants_tenant tenant ON tenant.id = entry.tenant_id
    WHERE entry.tenant_id = %(tenant_id)s AND entry.recorded_at >= %(since)s AND entry.recorded_at < %(until)s
"""
_ADD_UP = f"""
    INSERT INTO voice_ledgerday (id, tenant_id, ledger, day_date, agent_id, kind, entries, amount)
    SELECT gen_random_uuid(), tenant_id, %(ledger)s, day_date, agent_id, kind, entries, amount
    FROM ({_SUMS} AND entry.occurred_at >= %(earliest)s AND {_DAY_OF} = ANY(%(days)s) GROUP BY 1, 2, 3, 4) sums
"""
_WRONG = f"""
    SELECT coalesce(kept.day_date, sums.day_date), coalesce(kept.kind, sums.kind), kept.amount, sums.amount
    FROM (SELECT * FROM voice_ledgerday WHERE tenant_id = %(tenant_id)s AND ledger = %(ledger)s) kept
    FULL JOIN ({_SUMS} GROUP BY 1, 2, 3, 4) sums
        ON (kept.day_date, kept.kind, coalesce(kept.agent_id, {{nobody}})) =
            (sums.day_date, sums.kind, coalesce(sums.agent_id, {{nobody}}))
    WHERE (kept.amount, kept.entries) IS DISTINCT FROM (sums.amount, sums.entries)
"""
_BEHIND = """
    SELECT DISTINCT seal.tenant_id FROM billing_ledgerseal seal
    LEFT JOIN voice_ledgermark mark ON mark.tenant_id = seal.tenant_id AND mark.ledger = seal.ledger
    WHERE seal.until > coalesce(mark.rolled_up_until, '-infinity')
"""
_NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
"""A full join finds no rows where NULL is to equal NULL."""
ONE_DAY = datetime.timedelta(days=1)


def roll_up_all() -> int:
    """Bring the days of all tenants up to their last seals, and return of how many tenants."""
    with connections["operator"].cursor() as cursor:
        cursor.execute(_BEHIND)
        behind = [tenant_id for (tenant_id,) in cursor.fetchall()]
    for tenant_id in behind:
        with enter_tenant(tenant_id):
            roll_up()
    return len(behind)


def roll_up() -> None:
    """Add up anew the entered tenant's days that entries sealed since the last time belong to."""
    for source in SOURCES:
        if (until := sealed_until(source.ledger)) is None:
            continue
        mark, _ = LedgerMark.objects.select_for_update().get_or_create(
            ledger=source.ledger, defaults={"rolled_up_until": datetime.datetime.min.replace(tzinfo=datetime.UTC)}
        )
        _roll_up(source, mark.rolled_up_until, until)
        mark.rolled_up_until = until
        mark.save(update_fields=["rolled_up_until"])


def rebuild() -> None:
    """Forget the entered tenant's days, and make them anew from its ledgers."""
    LedgerDay.objects.all().delete()
    LedgerMark.objects.all().delete()
    roll_up()


def sealed_until(ledger: str) -> datetime.datetime | None:
    """Return up to when the entered tenant's ledger is sealed; None where nothing is."""
    last = LedgerSeal.objects.filter(ledger=ledger).order_by("number").last()
    return last.until if last else None


def wrong_days(source: Source, until: datetime.datetime) -> list[tuple[Any, ...]]:
    """Return day, kind, the amount kept and the ledger's own where the two differ."""
    return _rows(_WRONG, source, until=until)


def _roll_up(source: Source, since: datetime.datetime, until: datetime.datetime) -> None:
    ((earliest, days),) = _rows(_TOUCHED, source, since=since, until=until)
    if earliest is None:
        return
    LedgerDay.objects.filter(ledger=source.ledger, day_date__in=days).delete()
    # The day of the earliest entry begins up to a day before it.
    _run(_ADD_UP, source, until=until, days=days, earliest=earliest - ONE_DAY)


def _rows(statement: str, source: Source, **values: Any) -> list[tuple[Any, ...]]:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(_of(statement, source), _values(source, values))
        return cursor.fetchall()


def _run(statement: str, source: Source, **values: Any) -> None:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(_of(statement, source), _values(source, values))


def _of(statement: str, source: Source) -> str:
    return statement.format(table=source.table, kind=source.kind, amount=source.amount, nobody=_NOBODY)


def _values(source: Source, values: dict[str, Any]) -> dict[str, uuid.UUID | Any]:
    return {"tenant_id": entered_tenant_id(), "ledger": source.ledger, **values}
