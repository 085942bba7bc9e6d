"""Calls, ledgers and what is added up from them: they agree, and where they do not, that is told."""

from __future__ import annotations

import asyncio
import datetime
import json
import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.models import Usage
from billing.sealing import seal_ledgers
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.billing.test_sealing import tamper
from tests.voice.factories import RATE_NANO_DOLLARS_PER_SECOND, create_agent, create_call
from voice import ledger_days
from voice.models import Call, LedgerDay, Session
from voice.reconciliation import differences
from voice.tasks import roll_up_ledgers, sweep

SOON = datetime.timedelta(hours=1)


@pytest.fixture
def call(acme: Tenant) -> Call:
    """A call of 4.2 s that has ended, with its session, usage and cost."""
    with enter_tenant(acme.id):
        call = create_call(agent=create_agent(), quiet_seconds=120)
        Session.objects.create(
            call=call,
            pool_id=uuid.uuid4(),
            deployment_id=uuid.uuid4(),
            container="cascade-1",
            granted_at=call.started_at,
            active_ms=4200,
            rate_nano_dollars_per_second=RATE_NANO_DOLLARS_PER_SECOND,
        )
    assert asyncio.run(sweep(window_seconds=60)) == 1
    return call


def told(tenant: Tenant) -> list[str]:
    with enter_tenant(tenant.id):
        return [f"{each.what} {each.sentence}" for each in differences()]


def days(tenant: Tenant) -> dict[tuple[Any, str], int]:
    with enter_tenant(tenant.id):
        return {(row.agent_id, row.kind): row.amount for row in LedgerDay.objects.all()}


def correct_usage(seconds: int, call: Call) -> None:
    Usage.objects.create(
        kind=Usage.Kind.CALL_SECONDS,
        quantity=seconds,
        call_id=call.id,
        occurred_at=call.started_at,
        idempotency_key=f"correction:{uuid.uuid4()}",
    )


def test_a_call_that_ended_is_in_agreement_and_in_its_day(acme: Tenant, rival: Tenant, call: Call) -> None:
    assert told(acme) == []
    seal_ledgers(timezone.now() + SOON)
    assert roll_up_ledgers() == 1
    cost = 4200 * RATE_NANO_DOLLARS_PER_SECOND // 1000
    assert days(acme) == {(call.agent_id, "call_seconds"): 5, (call.agent_id, "active"): cost}
    assert days(rival) == {} and told(acme) == []


def test_what_comes_later_is_added_to_the_day_that_it_is_for(acme: Tenant, call: Call) -> None:
    seal_ledgers(timezone.now() + SOON)
    roll_up_ledgers()
    with enter_tenant(acme.id):
        Usage.objects.filter(call_id=call.id).get()
        correct_usage(-2, call)
        CostEntry.objects.create(
            part=CostEntry.Part.IDLE_WARM, nano_dollars=11, occurred_at=call.started_at, idempotency_key="idle"
        )
        # After what is sealed, as its recorded_at is: rows of this test are sealed with a clock that runs ahead.
        ahead = timezone.now() + SOON
    tamper("UPDATE billing_usage SET recorded_at = %s WHERE quantity = -2", ahead)
    tamper("UPDATE provisioning_costentry SET recorded_at = %s WHERE idempotency_key = 'idle'", ahead)
    seal_ledgers(ahead + SOON)
    assert roll_up_ledgers() == 1 and roll_up_ledgers() == 0
    assert days(acme)[call.agent_id, "call_seconds"] == 3
    assert days(acme)[None, "idle_warm"] == 11
    before = days(acme)
    with enter_tenant(acme.id):
        ledger_days.rebuild()
    assert days(acme) == before and told(acme) == []


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DELETE FROM billing_usage", "lasted 5 s, and the usage ledger has 0 s"),
        ("UPDATE billing_usage SET quantity = 50", "lasted 5 s, and the usage ledger has 50 s"),
        ("UPDATE voice_call SET cost_nano_dollars = 1", "is said to cost 1 nano-dollars"),
        ("DELETE FROM provisioning_costentry", "has no entry in the ledger of costs"),
        ("UPDATE voice_ledgerday SET amount = 6 WHERE kind = 'call_seconds'", "6 were added up, and the ledger has 5"),
        ("DELETE FROM voice_ledgerday WHERE kind = 'active'", "0 were added up, and the ledger has 55020"),
        ("UPDATE voice_callday SET turns = 9", "their figures differ"),
        ("UPDATE voice_call SET status = 'live'", "there is no such ended call"),
    ],
)
def test_every_difference_is_told(acme: Tenant, call: Call, statement: str, sentence: str) -> None:
    seal_ledgers(timezone.now() + SOON)
    roll_up_ledgers()
    tamper(statement)
    assert any(sentence in each for each in told(acme)), told(acme)


def test_the_command_tells_and_makes_the_days_anew(acme: Tenant, call: Call) -> None:
    said = StringIO()
    call_command("check_ledgers", stdout=said)
    assert "in agreement" in said.getvalue()
    tamper("UPDATE voice_callday SET calls = 7")
    said = StringIO()
    with pytest.raises(CommandError, match="1 differences"):
        call_command("check_ledgers", "--tenant", "acme", "--json", stdout=said)
    (difference,) = json.loads(said.getvalue())
    assert difference["tenant"] == "acme" and "7 calls were added up, 1 are there" in difference["sentence"]
    call_command("check_ledgers", "--rebuild", stdout=StringIO())
    with pytest.raises(CommandError, match="no tenant"):
        call_command("check_ledgers", "--tenant", "nobody")
