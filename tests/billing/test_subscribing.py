"""Subscribing through Checkout, changing plans, cancelling, and what follows for calls."""

from __future__ import annotations

import datetime

import pytest
from django.utils import timezone

from billing import changing, subscribing, syncing
from billing.entitlements import entitlements_of
from billing.invoicing import preview_next
from billing.models import Invoice, Plan, Subscription
from billing.stripe_api import BillingRefused
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests import factories
from tests.billing.factories import DECLINED_CARD, FAILING_CARD, GOOD_CARD, hear, subscribe
from tests.stripe_server.client import StripeServer


@pytest.fixture
def trial(alice: User) -> Tenant:
    return factories.create_tenant(name="Acme", owner=alice, plan="trial")


def checkout(tenant: Tenant, owner: User, plan: str = "starter", *, keep_trial: bool = False) -> str:
    with enter_tenant(tenant.id):
        return subscribing.start_checkout(
            plan=Plan.objects.get(slug=plan), actor=owner, return_url="https://here.example/", keep_trial=keep_trial
        )


def test_checkout_and_its_events_make_a_subscription_that_calls_are_allowed_on(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    customer = subscribe(stripe_server, trial, alice, plan="growth", is_synced=False)
    with enter_tenant(trial.id):
        assert Subscription.objects.get().status == "trialing"
    hear(stripe_server.events(customer))
    with enter_tenant(trial.id):
        entitlements = entitlements_of()
        assert (entitlements.plan.slug, entitlements.status, entitlements.refusal) == ("growth", "active", None)
        assert abs(entitlements.period_started_at - timezone.now()) < datetime.timedelta(minutes=1)
        invoice = Invoice.objects.get()
        assert (invoice.status, invoice.total_cents, invoice.currency) == ("paid", 49900, "usd")
        assert invoice.paid_at is not None and invoice.hosted_url and invoice.pdf_url


def test_a_trial_that_is_kept_ends_with_the_plan_and_no_call_is_refused_between(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    with enter_tenant(trial.id):
        began, ends_at = Subscription.objects.values_list("period_started_at", "trial_ends_at").get()
    subscribe(stripe_server, trial, alice, plan="growth", keep_trial=True)
    with enter_tenant(trial.id):
        subscription = Subscription.objects.get()
        assert (subscription.status, subscription.plan_id, subscription.next_plan_id) == ("trialing", "trial", "growth")
        assert subscription.period_started_at == began, "nobody gets the trial's minutes twice"
        assert subscription.trial_ends_at == ends_at.replace(microsecond=0)
        Subscription.objects.update(trial_ends_at=timezone.now() - datetime.timedelta(minutes=1))
        assert entitlements_of().refusal is None, "Stripe has not said yet what follows"
    stripe_server.advance(days=14, seconds=3700)
    with enter_tenant(trial.id):
        subscription = syncing.sync_subscription()
        assert (subscription.status, subscription.plan_id, subscription.next_plan_id) == ("active", "growth", None)


def test_a_trial_that_has_ended_comes_back_to_life_on_payment(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    with enter_tenant(trial.id):
        Subscription.objects.update(trial_ends_at=timezone.now() - datetime.timedelta(days=3))
        assert "choose a plan to go on" in (entitlements_of().refusal or "")
    with pytest.raises(BillingRefused, match="too soon"):
        checkout(trial, alice, keep_trial=True)
    subscribe(stripe_server, trial, alice)
    with enter_tenant(trial.id):
        assert entitlements_of().refusal is None


def test_a_declined_card_leaves_the_trial_as_it_was(stripe_server: StripeServer, trial: Tenant, alice: User) -> None:
    with pytest.raises(AssertionError, match="declined"):
        subscribe(stripe_server, trial, alice, card=DECLINED_CARD)
    with enter_tenant(trial.id):
        assert syncing.sync_subscription().status == "trialing"
        assert entitlements_of().refusal is None


def test_nobody_subscribes_twice(stripe_server: StripeServer, trial: Tenant, alice: User) -> None:
    first = checkout(trial, alice)
    second = checkout(trial, alice, "growth")
    with pytest.raises(AssertionError, match="not open any more"):
        stripe_server.control("complete", session=first.rsplit("/", 1)[1])
    stripe_server.control("complete", session=second.rsplit("/", 1)[1])
    with enter_tenant(trial.id):
        syncing.sync_subscription()
        assert Subscription.objects.get().plan_id == "growth"
    with pytest.raises(BillingRefused, match="There is a subscription already"):
        checkout(trial, alice)
    assert len(stripe_server.objects("customer")) == 1


def test_a_customer_that_was_deleted_at_stripe_is_made_anew(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    from billing.stripe_api import client

    checkout(trial, alice)
    with enter_tenant(trial.id):
        former = Subscription.objects.get().stripe_customer_id
    client().v1.customers.delete(former)
    assert subscribe(stripe_server, trial, alice) != former


def test_a_dearer_plan_costs_at_once_what_was_shown_and_holds_at_once(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    customer = subscribe(stripe_server, trial, alice)
    with enter_tenant(trial.id):
        growth = Plan.objects.get(slug="growth")
        change = changing.preview_change(plan=growth)
        assert change.is_upgrade and 34_900 <= change.now_cents <= 35_000
        changing.change_plan(plan=growth, actor=alice, proration_at=change.proration_at)
        assert entitlements_of().concurrent_calls == growth.max_concurrent_calls
    hear(stripe_server.events(customer))
    with enter_tenant(trial.id):
        assert Invoice.objects.get(reason="subscription_update").amount_paid_cents == change.now_cents
        assert AuditEntry.objects.filter(action="subscription.plan_changed", actor=alice).exists()


def test_a_cheaper_plan_is_credited_on_the_next_invoice(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    customer = subscribe(stripe_server, trial, alice, plan="growth")
    with enter_tenant(trial.id):
        starter = Plan.objects.get(slug="starter")
        change = changing.preview_change(plan=starter)
        changing.change_plan(plan=starter, actor=alice, proration_at=change.proration_at)
        upcoming = preview_next()
        assert upcoming is not None and change.now_cents < 0
        assert sum(line.amount_cents for line in upcoming.lines) == 14_900 + change.now_cents
    stripe_server.advance(days=32)
    hear(stripe_server.events(customer))
    with enter_tenant(trial.id):
        cycle = Invoice.objects.get(reason="subscription_cycle")
        assert (cycle.total_cents, cycle.status) == (14_900 + change.now_cents, "paid")


def test_an_upgrade_that_cannot_be_paid_changes_nothing(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    customer = subscribe(stripe_server, trial, alice)
    stripe_server.control("card", customer=customer, card=FAILING_CARD)
    with pytest.raises(BillingRefused, match="declined"), enter_tenant(trial.id):
        changing.change_plan(plan=Plan.objects.get(slug="growth"), actor=alice)
    with enter_tenant(trial.id):
        assert syncing.sync_subscription().plan_id == "starter"


def test_a_cancelled_subscription_goes_on_to_its_periods_end_and_can_be_kept(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    subscribe(stripe_server, trial, alice)
    with enter_tenant(trial.id):
        cancelled = subscribing.cancel(actor=alice)
        assert cancelled.cancels_at == cancelled.period_ends_at and entitlements_of().refusal is None
        assert preview_next() is None
        assert subscribing.keep_on(actor=alice).cancels_at is None
        subscribing.cancel(actor=alice)
    stripe_server.advance(days=32)
    with enter_tenant(trial.id):
        syncing.sync_subscription()
        assert entitlements_of().refusal == "The subscription was cancelled: choose a plan to go on."
    subscribe(stripe_server, trial, alice, plan="growth")
    with enter_tenant(trial.id):
        assert entitlements_of().refusal is None


def test_a_failed_payment_gives_grace_then_refuses_calls_until_it_is_paid(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    customer = subscribe(stripe_server, trial, alice)
    stripe_server.control("card", customer=customer, card=FAILING_CARD)
    stripe_server.advance(days=32)
    hear(stripe_server.events(customer))
    with enter_tenant(trial.id):
        subscription = Subscription.objects.get()
        assert (subscription.status, entitlements_of().refusal) == ("past_due", None)
        left = subscription.grace_ends_at - timezone.now()
        assert datetime.timedelta(days=6, hours=23) < left <= datetime.timedelta(days=7)
        unpaid = Invoice.objects.unpaid().get()
        Subscription.objects.update(grace_ends_at=timezone.now())
        syncing.sync_subscription()
        assert entitlements_of().refusal == "An invoice is unpaid: pay it to go on.", "asking again gives no new grace"
    stripe_server.control("card", customer=customer, card=GOOD_CARD)
    from billing.stripe_api import client

    client().v1.invoices.pay(unpaid.stripe_id)
    hear(stripe_server.events(customer))
    with enter_tenant(trial.id):
        assert (entitlements_of().status, entitlements_of().refusal) == ("active", None)
        assert not Invoice.objects.unpaid().exists()


def test_a_subscription_whose_last_attempt_failed_has_ended(
    stripe_server: StripeServer, trial: Tenant, alice: User
) -> None:
    customer = subscribe(stripe_server, trial, alice)
    stripe_server.control("card", customer=customer, card=FAILING_CARD)
    stripe_server.advance(days=45)
    hear(stripe_server.events(customer))
    with enter_tenant(trial.id):
        assert Subscription.objects.get().status == "cancelled"
        assert "choose a plan" in (entitlements_of().refusal or "")


def test_a_plan_for_one_tenant_is_offered_to_no_other(
    stripe_server: StripeServer, trial: Tenant, rival: Tenant, alice: User, charlie: User, olivia: User
) -> None:
    from django.core.management import call_command

    with enter_operator(olivia, reason="a test"):
        Plan.objects.create(
            slug="acme-own",
            name="Acme's own",
            is_public=False,
            reserved_for=trial,
            currency="eur",
            monthly_price_cents=250_000,
            max_agents=80,
            max_concurrent_calls=300,
            included_minutes=60_000,
            overage_cents_per_minute=5,
            max_regions=5,
            max_warm_containers=30,
            max_numbers=40,
            retention_days=365,
            support="A person",
        )
    with pytest.raises(BillingRefused, match="sync_plans"):
        checkout(trial, alice, "acme-own")
    call_command("sync_plans", verbosity=0)
    with pytest.raises(BillingRefused, match="not offered"):
        checkout(rival, charlie, "acme-own")
    customer = subscribe(stripe_server, trial, alice, plan="acme-own")
    hear(stripe_server.events(customer))
    with enter_tenant(trial.id):
        assert entitlements_of().concurrent_calls == 300
        assert (Invoice.objects.get().total_cents, Invoice.objects.get().currency) == (250_000, "eur")


def test_the_portal_needs_a_customer(stripe_server: StripeServer, trial: Tenant, alice: User) -> None:
    with enter_tenant(trial.id), pytest.raises(BillingRefused, match="choose a plan first"):
        subscribing.open_portal(return_url="https://here.example/")
    subscribe(stripe_server, trial, alice)
    with enter_tenant(trial.id):
        assert subscribing.open_portal(return_url="https://here.example/").startswith(f"{stripe_server.url}/portal/")
