"""The chain of seals: every entry is in it once, and nothing that was sealed can be touched unseen."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import psycopg
import pytest
from django.utils import timezone

from billing.models import LedgerSeal, Usage
from billing.sealing import SEALED_AFTER, broken_seals, seal_ledgers
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests import services

LONG_AGO = datetime.timedelta(days=2)


def record_usage(quantity: int, *, ago: datetime.timedelta = LONG_AGO) -> Usage:
    at = timezone.now() - ago
    return Usage.objects.create(
        kind=Usage.Kind.CALL_SECONDS,
        quantity=quantity,
        call_id=uuid.uuid4(),
        occurred_at=at,
        recorded_at=at,
        idempotency_key=str(uuid.uuid4()),
    )


def record_cost(nano_dollars: int, *, ago: datetime.timedelta = LONG_AGO) -> CostEntry:
    at = timezone.now() - ago
    return CostEntry.objects.create(
        part=CostEntry.Part.ACTIVE,
        nano_dollars=nano_dollars,
        occurred_at=at,
        recorded_at=at,
        idempotency_key=str(uuid.uuid4()),
    )


def tamper(statement: str, *values: Any) -> None:
    """Do what neither the application nor the operator can: change rows behind the triggers."""
    with psycopg.connect(services.superuser_url(), autocommit=True) as connection:
        connection.execute("SET session_replication_role = 'replica'")  # triggers stand still
        connection.execute(statement, values)


def seals(tenant: Tenant) -> list[tuple[str, int, int, int]]:
    with enter_tenant(tenant.id):
        return list(LedgerSeal.objects.values_list("ledger", "number", "entries", "total"))


def told(tenant: Tenant) -> list[str]:
    with enter_tenant(tenant.id):
        return [f"{each.what} {each.sentence}" for each in broken_seals()]


def test_what_was_recorded_is_sealed_once_in_the_chain_of_its_tenant(acme: Tenant, rival: Tenant) -> None:
    with enter_tenant(acme.id):
        record_usage(61)
        record_usage(2)
        record_cost(7_000)
    with enter_tenant(rival.id):
        record_usage(5)
    assert seal_ledgers() == 3
    assert seals(acme) == [("cost", 1, 1, 7_000), ("usage", 1, 2, 63)]
    assert seals(rival) == [("usage", 1, 1, 5)]
    assert seal_ledgers() == 0

    with enter_tenant(acme.id):
        record_usage(-2, ago=SEALED_AFTER)
    assert seal_ledgers(timezone.now() + datetime.timedelta(seconds=1)) == 1
    assert seals(acme)[1:] == [("usage", 1, 2, 63), ("usage", 2, 1, -2)]
    assert told(acme) == told(rival) == []


def test_what_was_recorded_a_moment_ago_waits(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        record_usage(1, ago=SEALED_AFTER - datetime.timedelta(minutes=1))
    assert seal_ledgers() == 0
    assert seal_ledgers(timezone.now() + datetime.timedelta(minutes=2)) == 1


@pytest.fixture
def sealed(acme: Tenant) -> list[Usage]:
    with enter_tenant(acme.id):
        entries = [record_usage(10), record_usage(20)]
    seal_ledgers(timezone.now() - LONG_AGO + datetime.timedelta(hours=1))
    with enter_tenant(acme.id):
        entries.append(record_usage(30, ago=datetime.timedelta(hours=1)))
    seal_ledgers()
    assert len(seals(acme)) == 2
    return entries


def test_a_changed_entry_is_found(acme: Tenant, sealed: list[Usage]) -> None:
    tamper("UPDATE billing_usage SET occurred_at = occurred_at + interval '1 day' WHERE id = %s", sealed[0].pk)
    assert told(acme) == ["usage ledger, seal 1 entries are no longer what was sealed"]


def test_a_removed_entry_and_one_that_was_slipped_in_are_found(acme: Tenant, sealed: list[Usage]) -> None:
    tamper("DELETE FROM billing_usage WHERE id = %s", sealed[1].pk)
    assert told(acme) == ["usage ledger, seal 1 2 entries of 30 in all were sealed, 1 of 10 are there"]
    with enter_tenant(acme.id):
        record_usage(20, ago=datetime.timedelta(hours=2))
    assert told(acme)[1:] == ["usage ledger, seal 2 1 entries of 30 in all were sealed, 2 of 50 are there"]


def test_a_removed_seal_and_a_forged_one_are_found(acme: Tenant, sealed: list[Usage]) -> None:
    tamper("UPDATE billing_ledgerseal SET digest = repeat('0', 64) WHERE number = 1")
    assert len(told(acme)) == 2  # itself, and the next one, which was made upon it
    tamper("DELETE FROM billing_ledgerseal WHERE number = 1")
    assert told(acme)[0] == "usage ledger, seal 2 does not follow the one before it: a seal is missing"


def test_nobody_changes_a_seal(acme: Tenant, sealed: list[Usage]) -> None:
    with pytest.raises(Exception, match="permission denied"), enter_tenant(acme.id):
        LedgerSeal.objects.update(total=0)
