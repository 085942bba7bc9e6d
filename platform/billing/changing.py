"""Changing from one plan to another within a period: what it costs, and doing it."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

from django.utils import timezone

from billing.models import Plan, Subscription
from billing.stripe_api import BillingRefused, client, speaking_to_stripe
from billing.subscribing import check_offered, locked_subscription
from billing.syncing import licensed_item, sync_after_change
from tenants import audit
from tenants.models import User
from tenants.ownership import entered_tenant_id

if TYPE_CHECKING:
    import stripe
    from stripe.params import InvoiceCreatePreviewParams, SubscriptionUpdateParamsItem


@dataclasses.dataclass(frozen=True)
class Change:
    """What another plan would cost. Amounts are hundredths of the currency; a negative one is a credit.

    `now_cents`: charged at once, or credited to the next invoice.
    """

    plan: Plan
    is_upgrade: bool
    now_cents: int
    currency: str
    proration_at: datetime.datetime


def preview_change(*, plan: Plan, now: datetime.datetime | None = None) -> Change:
    """Return what it would cost to change to a plan at this moment.

    Raises:
        BillingRefused: there is nothing to change; StripeAway, StripeRefused, BillingOff.
    """
    subscription, proration_at = Subscription.objects.select_related("plan").get(), now or timezone.now()
    with speaking_to_stripe():
        theirs = _changeable(subscription, plan)
        wanted: InvoiceCreatePreviewParams = {
            "customer": subscription.stripe_customer_id,
            "subscription": theirs.id,
            "subscription_details": {
                "items": _changed_items(theirs, plan),
                "proration_behavior": "always_invoice",
                "proration_date": _proration_date(theirs, proration_at),
            },
        }
        preview = client().v1.invoices.create_preview(wanted)
    return Change(
        plan=plan,
        is_upgrade=_is_upgrade(subscription.plan, plan),
        now_cents=preview.total,
        currency=preview.currency,
        proration_at=proration_at,
    )


def change_plan(*, plan: Plan, actor: User, proration_at: datetime.datetime | None = None) -> Subscription:
    """Put the entered tenant on another plan now. A dearer plan's difference is charged at once; a cheaper one's is
    credited to the next invoice.

    Args:
        proration_at: the moment that `preview_change` counted with, so that the amount is the one that was shown.

    Raises:
        BillingRefused: there is nothing to change, or the payment was declined, and nothing is changed; StripeAway,
            StripeRefused, BillingOff.
    """
    subscription = locked_subscription()
    with speaking_to_stripe():
        theirs = _changeable(subscription, plan)
        client().v1.subscriptions.update(
            theirs.id,
            {
                "items": _changed_items(theirs, plan),
                "proration_behavior": (
                    "always_invoice" if _is_upgrade(subscription.plan, plan) else "create_prorations"
                ),
                "proration_date": _proration_date(theirs, proration_at or timezone.now()),
                "payment_behavior": "error_if_incomplete",
                "metadata": {"tenant_id": str(entered_tenant_id()), "plan": plan.slug},
            },
        )
    audit.record(
        action="subscription.plan_changed", target=plan.name, actor=actor, details={"from": subscription.plan.name}
    )
    return sync_after_change()


def _changeable(subscription: Subscription, plan: Plan) -> stripe.Subscription:
    if not subscription.is_billed_by_stripe:
        raise BillingRefused("There is no subscription to change: choose a plan first.")
    if plan.pk == (subscription.next_plan_id or subscription.plan_id):
        raise BillingRefused(f"You are on {plan.name} already.")
    check_offered(plan)
    return client().v1.subscriptions.retrieve(subscription.stripe_subscription_id)


def _changed_items(theirs: stripe.Subscription, plan: Plan) -> list[SubscriptionUpdateParamsItem]:
    licensed, _ = licensed_item(theirs)
    items: list[SubscriptionUpdateParamsItem] = [{"id": licensed.id, "price": plan.stripe_price_id, "quantity": 1}]
    metered = [each for each in theirs.items.data if each.id != licensed.id]
    for each in metered[0 if not plan.has_overage else 1 :]:
        items.append({"id": each.id, "deleted": True})
    if plan.has_overage:
        price = plan.stripe_overage_price_id
        items.append({"id": metered[0].id, "price": price} if metered else {"price": price})
    return items


def _proration_date(theirs: stripe.Subscription, at: datetime.datetime) -> int:
    """Return the moment in Stripe's seconds, inside the period: clocks differ a little."""
    licensed, _ = licensed_item(theirs)
    first, last = licensed.current_period_start, licensed.current_period_end - 1
    return max(first, min(int(at.timestamp()), last))


def _is_upgrade(plan: Plan, other: Plan) -> bool:
    return other.monthly_price_cents > plan.monthly_price_cents
