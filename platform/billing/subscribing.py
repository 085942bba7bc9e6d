"""What owners do about their subscription: begin it, cancel it, think again, and open Stripe's portal.

Stripe is asked to do it; what it made of that is written down by billing.syncing, here at once and again by its events.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from billing.models import Plan, Subscription
from billing.stripe_api import BillingRefused, client, speaking_to_stripe
from billing.syncing import sync_after_change
from tenants import audit
from tenants.models import Membership, Tenant, User
from tenants.ownership import entered_tenant_id

if TYPE_CHECKING:
    from stripe.params.billing_portal import SessionCreateParams as PortalParams
    from stripe.params.checkout import (
        SessionCreateParams,
        SessionCreateParamsLineItem,
        SessionCreateParamsSubscriptionData,
    )

SHORTEST_TRIAL = datetime.timedelta(hours=49)
"""Checkout takes an end of trial that is two days away at least."""

PORTAL_MARK = "warmline"
"""Metadata of the portal's configuration that `manage.py sync_plans` keeps."""


def start_checkout(*, plan: Plan, actor: User, return_url: str, keep_trial: bool) -> str:
    """Return the address of a page of Stripe's on which the entered tenant subscribes to a plan.

    Args:
        return_url: where the browser comes back to, whether it subscribed or not.
        keep_trial: the plan, and the first payment, begin when the trial ends.

    Raises:
        BillingRefused: it has a subscription, or the plan is not for it; StripeAway, StripeRefused, BillingOff.
    """
    subscription = locked_subscription()
    check_offered(plan)
    if subscription.is_billed_by_stripe:
        raise BillingRefused("There is a subscription already: change its plan instead.")
    if keep_trial and not may_keep_trial(subscription):
        raise BillingRefused("The trial ends too soon for that: subscribe now instead.")
    tenant = str(entered_tenant_id())
    with speaking_to_stripe():
        customer = _customer(subscription, actor)
        # Two pages left open would make two subscriptions.
        for open_session in client().v1.checkout.sessions.list({"customer": customer, "status": "open"}).data:
            client().v1.checkout.sessions.expire(open_session.id)
        details: SessionCreateParamsSubscriptionData = {
            "metadata": {"tenant_id": tenant, "plan": plan.slug},
            "billing_mode": {"type": "flexible"},
        }
        if keep_trial and subscription.trial_ends_at is not None:
            details["trial_end"] = int(subscription.trial_ends_at.timestamp())
        wanted: SessionCreateParams = {
            "mode": "subscription",
            "customer": customer,
            "client_reference_id": tenant,
            "line_items": _line_items(plan),
            "subscription_data": details,
            "success_url": f"{return_url}?checkout={{CHECKOUT_SESSION_ID}}",
            "cancel_url": return_url,
            "allow_promotion_codes": True,
        }
        if settings.STRIPE_AUTOMATIC_TAX:
            wanted["automatic_tax"] = {"enabled": True}
            wanted["tax_id_collection"] = {"enabled": True}
            wanted["billing_address_collection"] = "required"
            wanted["customer_update"] = {"address": "auto", "name": "auto"}
        session = client().v1.checkout.sessions.create(wanted)
    audit.record(action="subscription.checkout_opened", target=plan.name, actor=actor)
    assert session.url is not None
    return session.url


def may_keep_trial(subscription: Subscription) -> bool:
    ends_at = subscription.trial_ends_at
    return (
        subscription.status == Subscription.Status.TRIALING
        and not subscription.stripe_subscription_id
        and ends_at is not None
        and ends_at - timezone.now() > SHORTEST_TRIAL
    )


def open_portal(*, return_url: str) -> str:
    """Return the address of Stripe's own pages for the entered tenant: cards, address, tax numbers, invoices.

    Raises:
        BillingRefused: it has never subscribed; StripeAway, StripeRefused, BillingOff.
    """
    subscription = Subscription.objects.get()
    if not subscription.stripe_customer_id:
        raise BillingRefused("There is nothing at Stripe yet: choose a plan first.")
    with speaking_to_stripe():
        configurations = client().v1.billing_portal.configurations.list({"active": True, "limit": 100})
        ours = [each.id for each in configurations.auto_paging_iter() if PORTAL_MARK in (each.metadata or {})]
        wanted: PortalParams = {"customer": subscription.stripe_customer_id, "return_url": return_url}
        if ours:
            wanted["configuration"] = ours[0]
        session = client().v1.billing_portal.sessions.create(wanted)
    return session.url


def cancel(*, actor: User) -> Subscription:
    """Let the entered tenant's subscription end with its period; calls go on until then.

    Raises:
        BillingRefused: there is none; StripeAway, StripeRefused, BillingOff.
    """
    return _set_cancelling(actor, cancelling=True)


def keep_on(*, actor: User) -> Subscription:
    """Take a cancellation back, as long as the period has not ended.

    Raises:
        BillingRefused: there is none; StripeAway, StripeRefused, BillingOff.
    """
    return _set_cancelling(actor, cancelling=False)


def _set_cancelling(actor: User, *, cancelling: bool) -> Subscription:
    subscription = locked_subscription()
    if not subscription.is_billed_by_stripe:
        raise BillingRefused("There is no subscription.")
    with speaking_to_stripe():
        client().v1.subscriptions.update(subscription.stripe_subscription_id, {"cancel_at_period_end": cancelling})
    action = "subscription.cancelled" if cancelling else "subscription.kept_on"
    audit.record(action=action, target=subscription.plan.name, actor=actor)
    return sync_after_change()


def locked_subscription() -> Subscription:
    """Return the entered tenant's subscription, locked until the transaction ends."""
    # Two who press at once are served one after the other.
    return Subscription.objects.select_for_update(of=("self",)).select_related("plan").get()


def _customer(subscription: Subscription, actor: User) -> str:
    """Return the tenant's customer at Stripe; a new one where there is none, or where it was deleted there."""
    former = subscription.stripe_customer_id
    if former and not getattr(client().v1.customers.retrieve(former), "deleted", False):
        return former
    tenant = Tenant.objects.get(pk=entered_tenant_id())
    owner = Membership.objects.owners().select_related("user").first()
    made = client().v1.customers.create(
        {
            "name": tenant.name,
            "email": owner.user.email if owner else actor.email,
            "metadata": {"tenant_id": str(tenant.pk), "tenant": tenant.slug},
        },
        {"idempotency_key": f"customer:{tenant.pk}:{former}"},
    )
    subscription.stripe_customer_id = made.id
    subscription.save(update_fields=["stripe_customer_id"])
    return made.id


def check_offered(plan: Plan) -> None:
    """Refuse a plan that the entered tenant may not choose.

    Raises:
        BillingRefused
    """
    if not Plan.objects.offered_to(entered_tenant_id()).filter(pk=plan.pk).exists():
        raise BillingRefused("This plan is not offered to you.")
    if not plan.is_for_sale:
        raise BillingRefused(
            f"The plan {plan.name} cannot be bought yet: the operator has to run manage.py sync_plans."
        )


def _line_items(plan: Plan) -> list[SessionCreateParamsLineItem]:
    items: list[SessionCreateParamsLineItem] = [{"price": plan.stripe_price_id, "quantity": 1}]
    if plan.has_overage:
        items.append({"price": plan.stripe_overage_price_id})
    return items
