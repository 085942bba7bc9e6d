"""Writing down how Stripe has a tenant's subscription now.

An event only says that something changed. What is written is always what Stripe answers when it is asked, under a lock
on the tenant's subscription: so events may come in any order and again, and the end is the same.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.utils import timezone

from billing import overage
from billing.models import Plan, Subscription
from billing.stripe_api import BillingRefused, StripeAway, client, id_of, moment, speaking_to_stripe
from tenants import audit

if TYPE_CHECKING:
    import stripe

log = structlog.get_logger(__name__)

STATUSES = {
    "trialing": Subscription.Status.TRIALING,
    "active": Subscription.Status.ACTIVE,
    "past_due": Subscription.Status.PAST_DUE,
    "unpaid": Subscription.Status.PAST_DUE,
    "paused": Subscription.Status.PAST_DUE,
    "canceled": Subscription.Status.CANCELLED,
}
"""What Stripe's states mean here. Those that are not in it (`incomplete`, …) never began: they change nothing."""

WRITTEN = (
    "plan_id",
    "next_plan_id",
    "status",
    "trial_ends_at",
    "period_started_at",
    "period_ends_at",
    "grace_ends_at",
    "cancels_at",
    "ended_at",
    "stripe_subscription_id",
)
TOLD = ("plan_id", "next_plan_id", "status", "cancels_at")
"""What the audit trail is told of."""


class PlanUnknown(BillingRefused):
    """A subscription at Stripe has a price that belongs to none of our plans."""


def sync_subscription() -> Subscription:
    """Ask Stripe how the entered tenant's subscription is, and write it down; return it.

    Raises:
        StripeAway, StripeRefused, BillingOff
        PlanUnknown: nothing was written.
    """
    # Who comes second waits, and asks after the first has written: an older answer never overwrites a newer one.
    subscription = Subscription.objects.select_for_update().get()
    if not subscription.stripe_customer_id:
        return subscription
    before = {name: getattr(subscription, name) for name in WRITTEN}
    with speaking_to_stripe():
        theirs = _their_subscription(subscription.stripe_customer_id)
        if theirs is not None:
            _take_over(subscription, theirs)
    subscription.synced_at = timezone.now()
    subscription.save(update_fields=[*WRITTEN, "synced_at"])
    changed = {name: getattr(subscription, name) for name in TOLD if getattr(subscription, name) != before[name]}
    if changed:
        audit.record(
            action="subscription.changed",
            target=subscription.plan.name,
            details={name.removesuffix("_id"): _said(value) for name, value in changed.items()},
        )
    subscription.refresh_from_db()  # the database works out when calls end
    return subscription


def sync_after_change() -> Subscription:
    """Do the same after Stripe took a change: should it be away right then, the change stands, and its event tells us.

    Raises:
        StripeRefused, BillingOff, PlanUnknown
    """
    try:
        return sync_subscription()
    except StripeAway:
        log.warning("subscription.not_synced_yet")
        return Subscription.objects.select_related("plan", "next_plan").get()


def _said(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime.datetime) else str(value or "")


def _their_subscription(customer_id: str) -> stripe.Subscription | None:
    """Return the customer's subscription that counts: the newest that lives, else the newest that has ended."""
    found = client().v1.subscriptions.list({"customer": customer_id, "status": "all", "limit": 100})
    begun = [each for each in found.auto_paging_iter() if each.status in STATUSES]
    living = [each for each in begun if each.status != "canceled"]
    if len(living) > 1:
        log.error("subscription.twice", customer=customer_id, subscriptions=[each.id for each in living])
    return max(living or begun, key=lambda each: (each.created, each.id), default=None)


def _take_over(subscription: Subscription, theirs: stripe.Subscription) -> None:
    item, plan = licensed_item(theirs)
    status = STATUSES[theirs.status]
    was_past_due = subscription.status == Subscription.Status.PAST_DUE
    started_at, ends_at = moment(item.current_period_start), moment(item.current_period_end)
    assert started_at is not None and ends_at is not None
    if status == Subscription.Status.TRIALING and subscription.plan.trial_days:
        # The trial's limits hold until Stripe says that the plan has begun.
        subscription.next_plan = plan
    else:
        subscription.plan, subscription.next_plan = plan, None
        if status != Subscription.Status.TRIALING:
            subscription.period_started_at = started_at
            overage.note_period(
                stripe_subscription_id=theirs.id,
                starts_at=started_at,
                ends_at=min(ends_at, moment(theirs.ended_at) or ends_at),
                plan=plan,
                is_current=True,
            )
    subscription.status = status
    subscription.stripe_subscription_id = theirs.id
    subscription.trial_ends_at = moment(theirs.trial_end) or subscription.trial_ends_at
    subscription.period_ends_at = ends_at
    ends = status == Subscription.Status.CANCELLED
    subscription.cancels_at = None if ends else _cancels_at(theirs, ends_at)
    subscription.ended_at = _not_ahead(moment(theirs.ended_at)) if ends else None
    if status != Subscription.Status.PAST_DUE:
        subscription.grace_ends_at = None
    else:
        grace_ends_at = _unpaid_since(theirs) + datetime.timedelta(days=settings.BILLING_GRACE_DAYS)
        earlier = subscription.grace_ends_at if was_past_due else None
        subscription.grace_ends_at = min(grace_ends_at, earlier) if earlier else grace_ends_at


def licensed_item(theirs: stripe.Subscription) -> tuple[stripe.SubscriptionItem, Plan]:
    """Return the item of the monthly price, and its plan.

    Raises:
        PlanUnknown
    """
    for item in theirs.items.data:
        if item.price.recurring is None or item.price.recurring.usage_type == "metered":
            continue
        plan = plan_of_price(item.price)
        if plan is not None:
            return item, plan
    raise PlanUnknown(f"No plan has the price of Stripe's subscription {theirs.id}: run manage.py sync_plans.")


def plan_of_price(price: stripe.Price) -> Plan | None:
    """Return the plan of a price; a price that the plan had before counts too, by its product."""
    return (
        Plan.objects.filter(stripe_price_id=price.id).first()
        or Plan.objects.filter(stripe_product_id=id_of(price.product)).exclude(stripe_product_id="").first()
    )


def _cancels_at(theirs: stripe.Subscription, ends_at: datetime.datetime) -> datetime.datetime | None:
    if theirs.cancel_at is not None:
        return moment(theirs.cancel_at)
    return ends_at if theirs.cancel_at_period_end else None


def _unpaid_since(theirs: stripe.Subscription) -> datetime.datetime:
    """Return since when the oldest unpaid invoice waits."""
    found = client().v1.invoices.list({"subscription": theirs.id, "status": "open", "limit": 100})
    since = [each.status_transitions.finalized_at or each.created for each in found.auto_paging_iter()]
    if not since:  # paused for want of a card, or the invoice was just paid
        since = [theirs.trial_end or theirs.items.data[0].current_period_start]
    return _not_ahead(moment(min(since)))


def _not_ahead(at: datetime.datetime | None) -> datetime.datetime:
    """Return a moment of the past as it is, and now for a later one: Stripe's test clocks run ahead of ours."""
    now = timezone.now()
    return now if at is None else min(at, now)
