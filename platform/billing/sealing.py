"""Sealing the ledgers: a chain of digests for each tenant. No sealed entry can be changed, added or removed unseen.

A ledger's entries are sealed a while after they were recorded, in stretches of time: what was recorded in a stretch is
digested together with the digest before it. Sealing reads entries and writes seals; it holds up nobody who records.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
from django.db import IntegrityError, connections
from django.utils import timezone

from billing.models import LedgerSeal, Usage
from tenants.differences import Difference
from tenants.scope import enter_tenant

SEALED_AFTER = datetime.timedelta(minutes=10)
"""Longer than any transaction takes, and than clocks differ: what a stretch has is there when it is sealed."""
BEGINNING = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
CHUNK = 2_000

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """A table of a tenant's entries. `fields` are digested in this order: add some in a new ledger alone."""

    name: str
    model: Any  # append-only, with recorded_at
    fields: tuple[str, ...]
    amount: str
    """The field that is added up in a seal."""


_ledgers: dict[str, Ledger] = {}


def register_ledger(ledger: Ledger) -> Ledger:
    """Have a ledger sealed; called from an app's `ready()`."""
    _ledgers[ledger.name] = ledger
    return ledger


USAGE = register_ledger(
    Ledger(
        "usage",
        Usage,
        ("id", "kind", "quantity", "call_id", "occurred_at", "recorded_at", "idempotency_key"),
        amount="quantity",
    )
)

UNSEALED = """
    SELECT tenant.id FROM tenants_tenant tenant
    LEFT JOIN LATERAL (
        SELECT seal.until FROM billing_ledgerseal seal
        WHERE seal.tenant_id = tenant.id AND seal.ledger = %(ledger)s ORDER BY seal.number DESC LIMIT 1
    ) last ON true
    WHERE EXISTS (
        SELECT 1 FROM {table} entry WHERE entry.tenant_id = tenant.id
            AND entry.recorded_at >= coalesce(last.until, '-infinity') AND entry.recorded_at < %(before)s
    )
"""


def seal_ledgers(at: datetime.datetime | None = None) -> int:
    """Seal what was recorded long enough ago, of all tenants, and return how many seals were set."""
    before = (at or timezone.now()) - SEALED_AFTER
    return sum(
        _seal(ledger, tenant_id, before) for ledger in _ledgers.values() for tenant_id in _unsealed(ledger, before)
    )


def _unsealed(ledger: Ledger, before: datetime.datetime) -> list[uuid.UUID]:
    """Look across tenants before each is entered: nothing but their ids is read."""
    with connections["operator"].cursor() as cursor:
        cursor.execute(UNSEALED.format(table=ledger.model._meta.db_table), {"ledger": ledger.name, "before": before})
        return [tenant_id for (tenant_id,) in cursor.fetchall()]


def _seal(ledger: Ledger, tenant_id: uuid.UUID, before: datetime.datetime) -> bool:
    try:
        with enter_tenant(tenant_id):
            last = LedgerSeal.objects.filter(ledger=ledger.name).order_by("number").last()
            since = last.until if last else BEGINNING
            digest, entries, total = _digest(ledger, since, before, last.digest if last else "")
            LedgerSeal.objects.create(
                ledger=ledger.name,
                number=last.number + 1 if last else 1,
                since=since,
                until=before,
                entries=entries,
                total=total,
                digest=digest,
            )
    except IntegrityError:  # another process set this one
        return False
    return True


def broken_seals() -> Iterator[Difference]:
    """Digest the entered tenant's ledgers anew, and tell of each seal that they no longer fit."""
    for ledger in _ledgers.values():
        previous = None
        for seal in LedgerSeal.objects.filter(ledger=ledger.name).order_by("number").iterator(CHUNK):
            what = f"{ledger.name} ledger, seal {seal.number}"
            if seal.number != (previous.number + 1 if previous else 1) or (previous and seal.since != previous.until):
                yield Difference(what, "does not follow the one before it: a seal is missing")
            digest, entries, total = _digest(ledger, seal.since, seal.until, previous.digest if previous else "")
            if (entries, total) != (seal.entries, seal.total):
                told = f"{seal.entries} entries of {seal.total} in all were sealed, {entries} of {total} are there"
                yield Difference(what, told)
            elif digest != seal.digest:
                yield Difference(what, "entries are no longer what was sealed")
            previous = seal


def _digest(ledger: Ledger, since: datetime.datetime, until: datetime.datetime, previous: str) -> tuple[str, int, int]:
    """Return the digest of what was recorded from `since` up to `until`, how many entries, and their amounts' sum."""
    digest, count, total = hashlib.sha256(previous.encode()), 0, 0
    place = ledger.fields.index(ledger.amount)
    for values in _entries(ledger, since, until):
        digest.update(b"\n" + json.dumps([_written(value) for value in values], separators=(",", ":")).encode())
        count += 1
        total += values[place]
    return digest.hexdigest(), count, total


def _entries(ledger: Ledger, since: datetime.datetime, until: datetime.datetime) -> Iterable[tuple[Any, ...]]:
    chosen = ledger.model.objects.filter(recorded_at__gte=since, recorded_at__lt=until).order_by("recorded_at", "pk")
    return chosen.values_list(*ledger.fields).iterator(CHUNK)


def _written(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value
