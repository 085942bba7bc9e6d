"""Tenants that subscribe at the stand-in, as a person would."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.utils import timezone

from billing import subscribing, syncing, webhooks
from billing.models import Plan, Subscription, Usage
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.stripe_server.client import StripeServer, signed

GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000002"
FAILING_CARD = "4000000000000341"


def subscribe(
    server: StripeServer,
    tenant: Tenant,
    owner: User,
    *,
    plan: str = "starter",
    card: str = GOOD_CARD,
    keep_trial: bool = False,
    is_synced: bool = True,
) -> str:
    """Subscribe through Checkout, and return the customer's id. `is_synced`: we have asked Stripe what came of it."""
    with enter_tenant(tenant.id):
        address = subscribing.start_checkout(
            plan=Plan.objects.get(slug=plan), actor=owner, return_url="https://here.example/", keep_trial=keep_trial
        )
    server.control("complete", session=address.rsplit("/", 1)[1], card=card)
    with enter_tenant(tenant.id):
        if is_synced:
            syncing.sync_subscription()
        return Subscription.objects.get().stripe_customer_id


def use_seconds(quantity: int, *, at: datetime.datetime | None = None) -> None:
    """Add to the usage ledger of the entered tenant."""
    Usage.objects.create(
        kind=Usage.Kind.CALL_SECONDS,
        quantity=quantity,
        call_id=uuid.uuid4(),
        occurred_at=at or timezone.now(),
        idempotency_key=str(uuid.uuid4()),
    )


def hear(events: list[dict[str, Any]]) -> list[str]:
    """Receive and process events, in this order, as the web process and the worker do; return what came of each."""
    outcomes = []
    for event in events:
        body, signature = signed(event)
        stored, _ = webhooks.receive_event(body=body, signature=signature)
        outcomes.append(webhooks.process_event(stored.pk))
    return outcomes
