"""A stand-in for Stripe that knows our plans, and tenants that subscribe there."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.test import override_settings

from billing.models import Plan, Subscription
from tenants.scope import enter_operator
from tests.stripe_server.client import KEY, WEBHOOK_SECRET, StripeServer
from tests.voice.processes import running


@pytest.fixture(scope="session")
def stripe_process(migrated_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeServer]:
    server = StripeServer(tmp_path_factory.mktemp("stripe"))
    with running(server.process):
        yield server


@pytest.fixture
def stripe_server(stripe_process: StripeServer) -> Iterator[StripeServer]:
    """The stand-in, with this installation set to it and our plans for sale there."""
    with override_settings(
        STRIPE_SECRET_KEY=KEY, STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET, STRIPE_API_URL=stripe_process.url
    ):
        call_command("sync_plans", stdout=io.StringIO())
        yield stripe_process
    stripe_process.control("forget")
    with enter_operator("the tests", reason="forget the stand-in"):
        Plan.objects.update(stripe_product_id="", stripe_price_id="", stripe_overage_price_id="")
        Subscription.objects.filter(plan__reserved_for__isnull=False).update(plan_id="trial")
        Plan.objects.filter(reserved_for__isnull=False).delete()
