"""What the operator does about billing in the admin: plans, also for one tenant, and what Stripe told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from billing import overage
from billing.models import OverageReport, Plan, Subscription
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests.billing.factories import hear, subscribe, use_seconds
from tests.stripe_server.client import StripeServer

ClientOf = Callable[[User], Client]
LISTS = [
    "billingperiod",
    "invoice",
    "notice",
    "overagereport",
    "plan",
    "refund",
    "stripeevent",
    "subscription",
    "usage",
]


@pytest.fixture
def own_plan(acme: Tenant, olivia: User) -> Any:
    """The form of a plan for acme alone; what it made is removed."""
    yield {
        "name": "Acme's own",
        "slug": "acme-own",
        "position": 9,
        "reserved_for": str(acme.pk),
        "currency": "usd",
        "monthly_price_cents": 250_000,
        "overage_cents_per_minute": 5,
        "included_minutes": 60_000,
        "max_agents": 80,
        "max_concurrent_calls": 300,
        "max_regions": 5,
        "max_warm_containers": 30,
        "max_numbers": 40,
        "retention_days": 365,
        "support": "A person",
    }
    with enter_operator(olivia, reason="remove the plan"):
        Plan.objects.filter(slug="acme-own").delete()


def test_the_operator_makes_a_plan_for_one_tenant(
    client_of: ClientOf, olivia: User, acme: Tenant, rival: Tenant, own_plan: dict[str, Any]
) -> None:
    assert client_of(olivia).post("/admin/billing/plan/add/", own_plan).status_code == 302
    for tenant, sees in ((acme, True), (rival, False)):
        offered = Plan.objects.offered_to(tenant.pk).values_list("slug", flat=True)
        assert ("acme-own" in offered) is sees
    assert not Plan.objects.public().filter(slug="acme-own").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"is_public": "on"}, "A plan for one tenant is not public"),
        ({"currency": "USD"}, "Three small letters"),
        ({"currency": "jpy"}, "Amounts here are hundredths"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_a_sentence(
    client_of: ClientOf, olivia: User, own_plan: dict[str, Any], wrong: dict[str, str], said: str
) -> None:
    answer = client_of(olivia).post("/admin/billing/plan/add/", {**own_plan, **wrong})
    assert answer.status_code == 200 and said in answer.content.decode()


@pytest.mark.parametrize("name", LISTS)
def test_each_list_shows_what_there_is(
    client_of: ClientOf, stripe_server: StripeServer, olivia: User, alice: User, acme: Tenant, name: str
) -> None:
    with enter_tenant(acme.pk):
        Subscription.objects.update(plan_id="trial", status="trialing")
    hear(stripe_server.events(subscribe(stripe_server, acme, alice))[:2])
    with enter_tenant(acme.pk):
        use_seconds(10)
    assert client_of(olivia).get(f"/admin/billing/{name}/").status_code == 200
    assert client_of(alice).get(f"/admin/billing/{name}/").status_code == 404


def test_the_operator_decides_on_a_report_that_may_have_arrived(
    client_of: ClientOf, stripe_server: StripeServer, olivia: User, alice: User, acme: Tenant
) -> None:
    with enter_tenant(acme.pk):
        Subscription.objects.update(plan_id="trial", status="trialing")
    subscribe(stripe_server, acme, alice)
    with enter_tenant(acme.pk):
        use_seconds(60_010)
        overage.report_overage()
        report = OverageReport.objects.get()
    chosen = {"action": "count_as_sent", "_selected_action": [str(report.pk)]}
    answer = client_of(olivia).post("/admin/billing/overagereport/", chosen, follow=True)
    assert "1 reports are counted as sent." in answer.content.decode()
    with enter_tenant(acme.pk):
        assert not OverageReport.objects.unsent().exists()
        assert AuditEntry.objects.filter(action="overage.decided", actor=olivia).exists()
