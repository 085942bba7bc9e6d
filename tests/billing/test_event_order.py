"""Whatever the order of Stripe's events, and however often they come: the end is the same, and so are the sums."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import changing, overage, subscribing, tasks
from billing.models import BillingPeriod, Invoice, OverageReport, Plan, Refund, Subscription, Usage
from billing.stripe_api import client
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests import factories
from tests.billing.factories import FAILING_CARD, GOOD_CARD, hear, subscribe, use_seconds
from tests.stripe_server.client import StripeServer

FEW = settings(deadline=None, max_examples=5, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture
def trial(alice: User) -> Tenant:
    return factories.create_tenant(name="Acme", owner=alice, plan="trial")


def state_of(tenant: Tenant) -> dict[str, Any]:
    """Return all that events lead to, but for when we asked and the ids of our rows."""
    with enter_tenant(tenant.id):
        subscription = Subscription.objects.values(
            "plan", "next_plan", "status", "period_started_at", "period_ends_at", "cancels_at", "stripe_subscription_id"
        ).get()
        invoices = Invoice.objects.order_by("stripe_id").values_list(
            "stripe_id", "number", "status", "total_cents", "amount_paid_cents", "paid_at", "period_starts_at"
        )
        refunds = Refund.objects.order_by("stripe_id").values_list("stripe_id", "status", "amount_cents", "currency")
        periods = BillingPeriod.objects.order_by("starts_at").values_list("starts_at", "ends_at", "included_seconds")
        return {
            **subscription,
            "invoices": list(invoices),
            "refunds": list(refunds),
            "periods": list(periods),
            "used": Usage.objects.total(Usage.Kind.CALL_SECONDS),
        }


def forget_what_was_heard(tenant: Tenant) -> None:
    """Take our rows back to when the customer had been made and no event had come."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("SET warmline.definer = 'on'")
        cursor.execute("TRUNCATE billing_refund, billing_invoice, billing_overagereport, billing_billingperiod")
    with enter_tenant(tenant.id):
        Subscription.objects.update(
            plan_id="trial",
            next_plan=None,
            status="trialing",
            stripe_subscription_id="",
            period_ends_at=None,
            grace_ends_at=None,
            cancels_at=None,
            ended_at=None,
        )


def orders(count: int) -> st.SearchStrategy[list[int]]:
    """Return every event once at least, some again, in any order."""
    again = st.lists(st.integers(0, count - 1), max_size=5)
    return again.flatmap(lambda more: st.permutations([*range(count), *more]))


def test_a_life_of_a_subscription_ends_the_same_in_any_order(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    """Two renewals, a failed payment that is made up for, a refund, and the end."""
    customer = subscribe(stripe_server, trial, alice, is_synced=False)
    with enter_tenant(trial.id):
        use_seconds(61_000)
    stripe_server.advance(days=32)
    stripe_server.control("card", customer=customer, card=FAILING_CARD)
    stripe_server.advance(days=31)
    stripe_server.control("card", customer=customer, card=GOOD_CARD)
    stripe_server.advance(days=4)
    paid = client().v1.invoice_payments.list({"limit": 1}).data[0]
    client().v1.refunds.create({"payment_intent": str(paid.payment.payment_intent), "amount": 4900})
    (living,) = stripe_server.objects("subscription")
    client().v1.subscriptions.update(living["id"], {"cancel_at_period_end": True})
    stripe_server.advance(days=31)
    events = stripe_server.events(customer)
    hear(events)
    expected = state_of(trial)
    assert expected["status"] == "cancelled" and len(expected["periods"]) == 3 and len(expected["refunds"]) == 1
    assert {status for _, _, status, *_ in expected["invoices"]} == {"paid"}
    # Of one thing, each event leads to the same question: a few of each are enough, in every order.
    kinds = sorted({event["type"] for event in events})
    chosen = [event for kind in kinds for event in [each for each in events if each["type"] == kind][:2]]

    @FEW
    @given(order=orders(len(chosen)))
    def any_order(order: list[int]) -> None:
        forget_what_was_heard(trial)
        hear([chosen[index] for index in order])
        assert state_of(trial) == expected

    any_order()


def test_events_of_before_heard_late_and_again_undo_nothing(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    """Plans were changed and the subscription cancelled and kept meanwhile, in our own pages."""
    customer = subscribe(stripe_server, trial, alice, plan="growth")
    with enter_tenant(trial.id):
        use_seconds(90_000)
        changing.change_plan(plan=Plan.objects.get(slug="starter"), actor=alice)
        changing.change_plan(plan=Plan.objects.get(slug="scale"), actor=alice)
        changing.change_plan(plan=Plan.objects.get(slug="starter"), actor=alice)
        subscribing.cancel(actor=alice)
        subscribing.keep_on(actor=alice)
    events = stripe_server.events(customer)
    hear(events)
    expected = state_of(trial)
    assert (expected["plan"], expected["cancels_at"]) == ("starter", None)
    assert [included for _, _, included in expected["periods"]] == [90_000], "what was included when used stays so"

    @FEW
    @given(order=orders(len(events)))
    def any_order(order: list[int]) -> None:
        hear([events[index] for index in order])
        assert state_of(trial) == expected

    any_order()


def test_events_that_are_processed_at_the_same_time_end_the_same(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    customer = subscribe(stripe_server, trial, alice, is_synced=False)
    stripe_server.advance(days=32)
    events = stripe_server.events(customer)

    def hear_and_leave(event: dict[str, Any]) -> None:
        try:
            hear([event])
        finally:
            connections.close_all()  # this thread's

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(hear_and_leave, [*events, *events]))
    together = state_of(trial)
    hear(events)
    assert state_of(trial) == together
    assert together["status"] == "active" and len(together["invoices"]) == 2 and len(together["periods"]) == 2


@settings(FEW, max_examples=4)
@given(
    spans=st.lists(st.integers(1, 40_000), min_size=1, max_size=3),
    months=st.integers(1, 2),
    seed=st.integers(0, 10_000),
)
def overage_of_months(stripe_server: StripeServer, owner: User, spans: list[int], months: int, seed: int) -> None:
    """Use, report twice, lose answers, hear some of the events, and go on."""
    dice = random.Random(seed)
    tenant = factories.create_tenant(name=f"Tenant {seed}", owner=owner, plan="trial")
    customer = subscribe(stripe_server, tenant, owner)
    expected = 0
    for _ in range(months):
        used = 0
        for seconds in spans:
            with enter_tenant(tenant.id):
                use_seconds(seconds, at=stripe_server.now)
            used += seconds
            stripe_server.control("fail", how=dice.choice([[], ["cut"], [500, "cut"]]))
            for _ in range(2):
                with enter_tenant(tenant.id):
                    overage.report_overage(now=stripe_server.now)
                while True:
                    with enter_tenant(tenant.id):
                        if not overage.note_attempt():
                            break
                    with enter_tenant(tenant.id):
                        overage.send_next_report()
            events = stripe_server.events(customer)
            hear(dice.choices(events, k=3))
        expected += max(0, used - 60_000)
        stripe_server.advance(days=32)
        with enter_tenant(tenant.id):
            subscription = tasks.syncing.sync_subscription()
            assert subscription.status == "active"
    with enter_tenant(tenant.id):
        assert OverageReport.objects.total_seconds() == expected
        assert not OverageReport.objects.unsent().exists()
    assert stripe_server.metered(customer) == expected
    hear(stripe_server.events(customer))
    with enter_tenant(tenant.id):
        plan = Plan.objects.get(slug="starter")
        charged = sum(Invoice.objects.values_list("total_cents", flat=True)) - (months + 1) * plan.monthly_price_cents
        by_period = [overage.overage_cents(overage.overage_seconds(each), plan) for each in BillingPeriod.objects.all()]
        assert charged == sum(by_period)


def test_each_second_beyond_the_plan_is_metered_once_whatever_is_lost_and_repeated(
    stripe_server: StripeServer, alice: User
) -> None:
    overage_of_months(stripe_server, alice)
