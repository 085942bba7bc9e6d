"""Events from Stripe: checked, stored as they came, and made something of later, in any order and repetition."""

from __future__ import annotations

import json
from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from billing import invoicing, syncing
from billing.lookups import tenant_of_stripe_customer
from billing.models import StripeEvent
from billing.stripe_api import BillingOff, client, id_of, is_on, moment, speaking_to_stripe
from tenants.scope import atomic, enter_operator, enter_tenant

log = structlog.get_logger(__name__)

WHO = "Stripe's events"
LISTENED = (
    "checkout.session.completed",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.updated",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
    "invoice.updated",
    "invoice.voided",
    "refund.created",
    "refund.failed",
    "refund.updated",
)
"""What the endpoint at Stripe is to send: docs/billing.md. Others do no harm."""

SIGNED_WITHIN_SECONDS = 300
"""An older signature may be somebody's who has overheard it."""


class BadSignature(Exception):
    """A request was not signed with this endpoint's secret, or too long ago, or holds no event."""


def receive_event(*, body: bytes, signature: str) -> tuple[StripeEvent, bool]:
    """Store an event and return it, and whether it is new. Nothing is made of it yet.

    Raises:
        BadSignature
        BillingOff
    """
    # Without a secret anybody could sign.
    if not is_on() or not settings.STRIPE_WEBHOOK_SECRET:
        raise BillingOff
    import stripe

    try:
        stripe.WebhookSignature.verify_header(body, signature, settings.STRIPE_WEBHOOK_SECRET, SIGNED_WITHIN_SECONDS)
        event = json.loads(body)
    except (ValueError, stripe.SignatureVerificationError) as problem:
        raise BadSignature(str(problem)) from problem
    if not isinstance(event, dict) or event.get("object") != "event":
        raise BadSignature("What was signed is no event.")
    with enter_operator(WHO, reason=f"store {event['id']}"), atomic():
        return StripeEvent.objects.get_or_create(
            id=event["id"],
            defaults={"type": event["type"], "created_at": moment(event["created"]), "body": body.decode()},
        )


def process_event(event_id: str) -> str:
    """Make what there is to be made of a stored event; return what came of it, in a few words. Safe to repeat.

    Raises:
        StripeAway, StripeRefused, PlanUnknown, BillingOff: the event keeps the reason, and waits to be processed again.
    """
    with enter_operator(WHO, reason=f"read {event_id}"):
        event = StripeEvent.objects.get(pk=event_id)
    try:
        outcome = _handle(event)
    except Exception as problem:
        _note(event_id, problem=f"{type(problem).__name__}: {problem}"[:300])
        raise
    _note(event_id, problem="")
    log.info("stripe.event_processed", event_id=event_id, type=event.type, outcome=outcome)
    return outcome


def _note(event_id: str, *, problem: str) -> None:
    with enter_operator(WHO, reason=f"keep what came of {event_id}"), atomic():
        event = StripeEvent.objects.select_for_update().get(pk=event_id)
        event.attempts += 1
        event.problem = problem
        event.processed_at = None if problem else timezone.now()
        event.save(update_fields=["attempts", "problem", "processed_at"])


def _handle(event: StripeEvent) -> str:
    """What the event holds is used to know whom and what to ask about, and for nothing else."""
    about: dict[str, Any] = json.loads(event.body)["data"]["object"]
    kind = about.get("object", "")
    if kind == "refund" and not about.get("customer"):
        about = {**about, "customer": _customer_of_charge(about.get("charge"))}
    customer = about.get("customer") if kind != "customer" else about.get("id")
    customer_id = customer.get("id", "") if isinstance(customer, dict) else customer or ""
    tenant_id = tenant_of_stripe_customer(customer_id)
    if tenant_id is None:
        return "no tenant of ours"
    with enter_tenant(tenant_id):
        match kind:
            case "subscription" | "checkout.session":
                syncing.sync_subscription()
            case "invoice" if about.get("id"):
                # The invoice that failed or was paid decides the subscription's standing too.
                invoicing.sync_invoice(about["id"])
                syncing.sync_subscription()
            case "refund":
                invoicing.sync_refund(about["id"])
            case _:
                return "nothing to do"
    return f"synced {kind}"


def _customer_of_charge(charge_id: str | None) -> str:
    if not charge_id:
        return ""
    with speaking_to_stripe():
        return id_of(client().v1.charges.retrieve(charge_id).customer)
