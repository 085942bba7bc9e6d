"""A stand-in for Stripe that knows our plans, and tenants that subscribe there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

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


def billing_at(server: StripeServer) -> Any:
    """Set this installation to a stand-in."""
    return override_settings(STRIPE_SECRET_KEY=KEY, STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET, STRIPE_API_URL=server.url)


@pytest.fixture(scope="session")
def offered(stripe_process: StripeServer) -> list[dict[str, str]]:
    """Our plans with their ids at the stand-in, which `sync_plans` has made there."""
    with billing_at(stripe_process):
        call_command("sync_plans", stdout=io.StringIO())
    return list(
        Plan.objects.values("slug", "stripe_product_id", "stripe_price_id", "stripe_overage_price_id").filter(
            monthly_price_cents__gt=0
        )
    )


@pytest.fixture
def stripe_server(stripe_process: StripeServer, offered: list[dict[str, str]]) -> Iterator[StripeServer]:
    """The stand-in, with this installation set to it and our plans for sale there."""
    with enter_operator("the tests", reason="know the stand-in's prices"):
        for ids in offered:
            Plan.objects.filter(slug=ids["slug"]).update(**ids)
    with billing_at(stripe_process):
        yield stripe_process
    stripe_process.control("forget")
    with enter_operator("the tests", reason="forget the stand-in"):
        Plan.objects.update(stripe_product_id="", stripe_price_id="", stripe_overage_price_id="")
        Subscription.objects.filter(plan__reserved_for__isnull=False).update(plan_id="trial")
        Plan.objects.filter(reserved_for__isnull=False).delete()
