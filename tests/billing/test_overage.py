"""Which seconds are beyond the plan, in which period, and when Stripe is told of them."""

from __future__ import annotations

import datetime

import pytest
from django.utils import timezone

from billing import changing, overage, syncing, tasks
from billing.models import BillingPeriod, OverageReport, Plan, Subscription
from billing.stripe_api import StripeAway, client
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests import factories
from tests.billing.factories import hear, subscribe, use_seconds
from tests.stripe_server.client import StripeServer

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def customer(stripe_server: StripeServer, tenant: Tenant, alice: User) -> str:
    return subscribe(stripe_server, tenant, alice)  # a thousand minutes


@pytest.fixture
def tenant(alice: User) -> Tenant:
    return factories.create_tenant(name="Acme", owner=alice, plan="trial")


def test_nothing_within_the_plan_is_told_and_what_is_beyond_it_once(
    stripe_server: StripeServer, customer: str, tenant: Tenant
) -> None:
    with enter_tenant(tenant.id):
        use_seconds(60_000)
    assert tasks.report_overage() == 0
    with enter_tenant(tenant.id):
        use_seconds(7)
        use_seconds(100)
    assert [tasks.report_overage() for _ in range(3)] == [107, 0, 0]
    assert stripe_server.metered(customer) == 107


def test_a_correction_takes_back_what_was_not_told_yet(
    stripe_server: StripeServer, customer: str, tenant: Tenant
) -> None:
    with enter_tenant(tenant.id):
        use_seconds(60_100)
        use_seconds(-40)
    assert tasks.report_overage() == 60
    with enter_tenant(tenant.id):
        use_seconds(-60)
        use_seconds(50)
    assert tasks.report_overage() == 0, "ten seconds too many were told: the next ten are not told"
    with enter_tenant(tenant.id):
        use_seconds(30)
    assert tasks.report_overage() == 20
    assert stripe_server.metered(customer) == 80


def test_calls_of_the_trial_are_never_overage(stripe_server: StripeServer, tenant: Tenant, alice: User) -> None:
    with enter_tenant(tenant.id):
        use_seconds(70_000, at=timezone.now() - HOUR)
    customer = subscribe(stripe_server, tenant, alice)
    assert tasks.report_overage() == 0
    assert stripe_server.metered(customer) == 0


def test_a_dearer_plan_includes_more_from_now_on_and_a_cheaper_one_takes_nothing_back(
    stripe_server: StripeServer, customer: str, tenant: Tenant, alice: User
) -> None:
    with enter_tenant(tenant.id):
        use_seconds(60_500)
    assert tasks.report_overage() == 500
    with enter_tenant(tenant.id):
        changing.change_plan(plan=Plan.objects.get(slug="growth"), actor=alice)
        use_seconds(60_000)
    assert tasks.report_overage() == 0
    with enter_tenant(tenant.id):
        changing.change_plan(plan=Plan.objects.get(slug="starter"), actor=alice)
        assert BillingPeriod.objects.get().included_seconds == 120_500
        use_seconds(600)
    assert tasks.report_overage() == 100, "of 600 beyond, 500 were told before"
    assert stripe_server.metered(customer) == 600


def test_a_report_that_stripe_did_not_get_is_sent_when_it_is_back(
    stripe_server: StripeServer, customer: str, tenant: Tenant
) -> None:
    with enter_tenant(tenant.id):
        use_seconds(60_010)
        overage.report_overage()
    stripe_server.control("fail", how=[503] * 3)
    with enter_tenant(tenant.id):
        overage.note_attempt()
    with pytest.raises(StripeAway), enter_tenant(tenant.id):
        overage.send_next_report()
    with enter_tenant(tenant.id):
        assert OverageReport.objects.unsent().count() == 1
    assert tasks.report_overage() == 0, "there is nothing new to write down"
    assert stripe_server.metered(customer) == 10


def test_a_report_that_arrived_and_was_not_noted_counts_once(
    stripe_server: StripeServer, customer: str, tenant: Tenant
) -> None:
    with enter_tenant(tenant.id):
        use_seconds(60_010)
    tasks.report_overage()
    with enter_tenant(tenant.id):
        OverageReport.objects.update(sent_at=None)  # as if the worker had died before it wrote that down
    tasks.report_overage()
    with enter_tenant(tenant.id):
        assert not OverageReport.objects.unsent().exists()
    assert stripe_server.metered(customer) == 10


def test_a_report_that_may_have_arrived_a_day_ago_is_left_to_people(
    stripe_server: StripeServer, customer: str, tenant: Tenant
) -> None:
    with enter_tenant(tenant.id):
        use_seconds(60_010)
        overage.report_overage()
        OverageReport.objects.update(tried_at=timezone.now() - 24 * HOUR)
    tasks.report_overage()
    assert stripe_server.metered(customer) == 0
    with enter_tenant(tenant.id):
        OverageReport.objects.update(tried_at=None)
    tasks.report_overage()
    assert stripe_server.metered(customer) == 10


def test_subscribing_anew_in_the_middle_of_a_month_counts_no_second_twice(
    stripe_server: StripeServer, customer: str, tenant: Tenant, alice: User
) -> None:
    (first,) = stripe_server.objects("subscription")
    client().v1.subscriptions.cancel(first["id"])
    with enter_tenant(tenant.id):
        syncing.sync_subscription()
    stripe_server.advance(days=3)
    subscribe(stripe_server, tenant, alice)
    hear(stripe_server.events(customer))
    with enter_tenant(tenant.id):
        before, now = BillingPeriod.objects.order_by("starts_at")
        assert before.ends_at < now.starts_at and before.stripe_subscription_id != now.stripe_subscription_id
        use_seconds(60_010, at=stripe_server.now)
        assert [overage.overage_seconds(each) for each in (before, now)] == [0, 10]


def test_the_moment_that_is_told_lies_in_the_period_until_its_invoice_is_final() -> None:
    ends_at = timezone.now()
    period = BillingPeriod(starts_at=ends_at - 700 * HOUR, ends_at=ends_at, included_seconds=0)
    within = overage.metered_at(period, ends_at - HOUR)
    just_after = overage.metered_at(period, ends_at + HOUR / 2)
    late = overage.metered_at(period, ends_at + 2 * HOUR)
    assert within == ends_at - HOUR
    assert just_after == ends_at - datetime.timedelta(seconds=1)
    assert late == ends_at + 2 * HOUR, "the next invoice has it"


def test_a_plan_that_stops_at_its_minutes_has_no_overage(tenant: Tenant) -> None:
    with enter_tenant(tenant.id):
        now = timezone.now()
        period = overage.note_period(
            stripe_subscription_id="sub_1",
            starts_at=now - HOUR,
            ends_at=now + HOUR,
            plan=Plan.objects.get(slug="trial"),
            is_current=True,
        )
        use_seconds(10_000)
        assert (period.included_seconds, overage.overage_seconds(period)) == (None, 0)


def test_without_billing_nothing_is_reported(tenant: Tenant) -> None:
    with enter_tenant(tenant.id):
        Subscription.objects.update(plan_id="starter", status="active")
        use_seconds(100_000)
    assert tasks.report_overage() == 0
