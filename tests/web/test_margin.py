"""What was earned against what was spent: the arithmetic over days, agents and plans, and the operator's page."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from billing.models import BillingPeriod, Plan, Subscription
from tenants.models import Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests import factories
from tests.voice.factories import create_agent
from voice.models import LedgerDay
from web.margin import NANO_DOLLARS_A_CENT, Line, Margin, margin_of

TODAY = datetime.datetime.now(datetime.UTC).date()
YESTERDAY = TODAY - datetime.timedelta(days=1)
DAY_OF_STARTER = round(12 * 14_900 * NANO_DOLLARS_A_CENT / 365)


@pytest.fixture(autouse=True)
def in_trial(rival: Tenant) -> None:
    with enter_tenant(rival.id):
        Subscription.objects.update(plan=Plan.objects.get(slug="trial"), status="trialing")


def on_plan(tenant: Tenant, plan: str, *, included_seconds: int | None = 60_000) -> None:
    """Subscribe a tenant since three days ago, in a period of thirty days."""
    begin = timezone.now() - datetime.timedelta(days=3)
    with enter_tenant(tenant.id):
        Subscription.objects.update(
            plan=Plan.objects.get(slug=plan), status="active", stripe_subscription_id="sub_1", period_started_at=begin
        )
        BillingPeriod.objects.create(
            stripe_subscription_id="sub_1",
            starts_at=begin,
            ends_at=begin + datetime.timedelta(days=30),
            included_seconds=included_seconds,
        )


def add(tenant: Tenant, day: datetime.date, agent_id: Any, **amounts: int) -> None:
    with enter_tenant(tenant.id):
        for kind, amount in amounts.items():
            ledger = "usage" if kind == "call_seconds" else "cost"
            LedgerDay.objects.create(
                day_date=day, agent_id=agent_id, ledger=ledger, kind=kind, entries=1, amount=amount
            )


def statement(by: str, days: int = 2) -> Margin:
    with enter_operator("the tests", reason="read margins"):
        return margin_of(TODAY - datetime.timedelta(days=days - 1), TODAY, by=by)


def lines(by: str, days: int = 2) -> dict[str, Line]:
    return {line.name: line for line in statement(by, days).lines}


def test_a_subscribed_day_earns_its_part_of_the_price_and_costs_are_told_by_part(acme: Tenant, rival: Tenant) -> None:
    on_plan(acme, "starter")
    add(acme, TODAY, None, idle_warm=5_000)
    add(rival, TODAY, None, cold_start=700)  # in its trial
    found = lines("tenant", days=1)
    assert found["Acme"].earned == DAY_OF_STARTER and found["Acme"].costs["idle_warm"] == 5_000
    assert (found["Rival"].earned, found["Rival"].margin, found["Rival"].share) == (0, -700, None)
    assert statement("tenant", days=1).total.margin == DAY_OF_STARTER - 5_700


def test_minutes_beyond_the_included_ones_are_earned_on_their_day(acme: Tenant) -> None:
    on_plan(acme, "starter", included_seconds=100)
    add(acme, YESTERDAY, None, call_seconds=80)
    add(acme, TODAY, None, call_seconds=80)
    found = lines("day")
    assert found[str(YESTERDAY)].earned == DAY_OF_STARTER
    assert found[str(TODAY)].earned == DAY_OF_STARTER + 12 * NANO_DOLLARS_A_CENT  # a minute beyond


def test_a_day_is_shared_among_agents_by_their_seconds_to_the_nano_dollar(acme: Tenant) -> None:
    on_plan(acme, "growth")
    with enter_tenant(acme.id):
        one, two = create_agent(slug="one"), create_agent(slug="two")
        two.name = "Night desk"
        two.save()
    add(acme, TODAY, one.pk, call_seconds=100, active=10)
    add(acme, TODAY, two.pk, call_seconds=200, active=20)
    found = lines("agent", days=1)
    assert {name: (line.seconds, line.spent) for name, line in found.items()} == {
        "Acme · Front desk": (100, 10),
        "Acme · Night desk": (200, 20),
    }
    assert found["Acme · Night desk"].earned == pytest.approx(2 * found["Acme · Front desk"].earned, abs=2)
    assert sum(line.earned for line in found.values()) == statement("tenant", days=1).total.earned


def test_every_way_to_add_up_comes_to_the_same(acme: Tenant, rival: Tenant) -> None:
    on_plan(acme, "starter", included_seconds=50)
    add(acme, YESTERDAY, None, call_seconds=333, active=12_345, adjustment=-45)
    add(rival, TODAY, None, model=99)
    totals = [
        (each.total.earned, each.total.spent, sum(line.earned for line in each.lines))
        for each in map(statement, ("tenant", "agent", "plan", "day"))
    ]
    assert len(set(totals)) == 1 and totals[0][0] == totals[0][2]
    assert set(lines("plan")) == {"Starter", "Trial"}


def test_a_plan_that_the_operator_set_earns_without_stripe(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        Subscription.objects.update(
            plan=Plan.objects.get(slug="scale"), status="active", period_started_at=timezone.now()
        )
    assert lines("tenant")["Acme"].earned == round(12 * 149_900 * NANO_DOLLARS_A_CENT / 365)


def test_the_page_is_the_operators(client_of: Any, acme: Tenant, alice: User, olivia: User) -> None:
    on_plan(acme, "starter")
    add(acme, TODAY, None, active=2_000_000_000)
    page = client_of(olivia).get("/fleet/margin/?by=agent&span=7d").content.decode()
    assert "Acme · no call" in page and "$2.00" in page
    assert client_of(olivia).get("/fleet/margin/?by=nonsense&span=nonsense").status_code == 200
    assert client_of(alice).get("/fleet/margin/").status_code == 404
    factories.create_tenant(name="Idle", owner=alice, plan="trial")
    assert "Idle" not in client_of(olivia).get("/fleet/margin/").content.decode()
