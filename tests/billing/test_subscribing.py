"""Subscribing through Checkout: from a trial to a plan that calls are allowed on."""

from __future__ import annotations

import pytest

from billing.entitlements import entitlements_of
from billing.models import Invoice, Subscription
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests import factories
from tests.billing.factories import hear, subscribe
from tests.stripe_server.client import StripeServer


@pytest.fixture
def trial(alice: User) -> Tenant:
    return factories.create_tenant(name="Acme", owner=alice, plan="trial")


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
        invoice = Invoice.objects.get()
        assert (invoice.status, invoice.total_cents, invoice.currency) == ("paid", 49900, "usd")
