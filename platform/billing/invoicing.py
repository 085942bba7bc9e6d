"""Writing down invoices and refunds as Stripe has them now, whatever event made us look."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

from billing import overage
from billing.models import Invoice, Plan, Refund, Subscription
from billing.stripe_api import client, id_of, moment, speaking_to_stripe
from billing.syncing import plan_of_price

if TYPE_CHECKING:
    import stripe


@dataclasses.dataclass(frozen=True)
class NextLine:
    words: str
    amount_cents: int


@dataclasses.dataclass(frozen=True)
class NextInvoice:
    """What will be asked for next, and when, as things stand. `due_cents`: after credit from before."""

    at: datetime.datetime
    currency: str
    lines: list[NextLine]
    tax_cents: int
    due_cents: int


def preview_next() -> NextInvoice | None:
    """Return the entered tenant's next invoice; None where the subscription ends before there is one.

    Raises:
        StripeAway, StripeRefused, BillingOff
    """
    subscription = Subscription.objects.get()
    if not subscription.is_billed_by_stripe:
        return None
    import stripe

    with speaking_to_stripe():
        try:
            theirs = client().v1.invoices.create_preview(
                {
                    "customer": subscription.stripe_customer_id,
                    "subscription": subscription.stripe_subscription_id,
                }
            )
        except stripe.InvalidRequestError as problem:
            if problem.code != "invoice_upcoming_none":
                raise
            return None
    at = moment(theirs.next_payment_attempt or theirs.period_end)
    assert at is not None
    return NextInvoice(
        at=at,
        currency=theirs.currency,
        lines=[NextLine(line.description or "", line.amount) for line in theirs.lines.data],
        tax_cents=_tax_of(theirs),
        due_cents=theirs.amount_due,
    )


def sync_invoice(stripe_id: str) -> Invoice | None:
    """Ask Stripe for an invoice of the entered tenant and write it down; None where it was a draft that is gone.

    Raises:
        StripeAway, StripeRefused, BillingOff
    """
    _lock()
    import stripe

    with speaking_to_stripe():
        try:
            theirs = client().v1.invoices.retrieve(stripe_id)
        except stripe.InvalidRequestError as problem:
            if problem.http_status != 404:
                raise
            Invoice.objects.filter(stripe_id=stripe_id, status=Invoice.Status.DRAFT).delete()
            return None
        invoice = _write(theirs)
        _note_periods(theirs)
    return invoice


def sync_refund(stripe_id: str) -> Refund | None:
    """Ask Stripe for a refund of the entered tenant and write it down; None where it is of no invoice.

    Raises:
        StripeAway, StripeRefused, BillingOff
    """
    _lock()
    with speaking_to_stripe():
        theirs = client().v1.refunds.retrieve(stripe_id)
        intent = id_of(theirs.payment_intent)
        if not intent:
            return None
        payments = client().v1.invoice_payments.list(
            {"payment": {"type": "payment_intent", "payment_intent": intent}, "limit": 1}
        )
        if not payments.data:
            return None
        invoice = _write(client().v1.invoices.retrieve(id_of(payments.data[0].invoice)))
    refund, _ = Refund.objects.update_or_create(
        stripe_id=theirs.id,
        defaults={
            "invoice": invoice,
            "status": theirs.status or "",
            "amount_cents": theirs.amount,
            "currency": theirs.currency,
            "created_at": moment(theirs.created),
        },
    )
    return refund


def _lock() -> None:
    """Let those who write down what Stripe says of the entered tenant come one after the other."""
    Subscription.objects.select_for_update().get()


def _write(theirs: stripe.Invoice) -> Invoice:
    times = theirs.status_transitions
    invoice, _ = Invoice.objects.update_or_create(
        stripe_id=theirs.id,
        defaults={
            "number": theirs.number or "",
            "status": theirs.status or Invoice.Status.DRAFT,
            "reason": theirs.billing_reason or "",
            "currency": theirs.currency,
            "total_cents": theirs.total,
            "tax_cents": _tax_of(theirs),
            "amount_due_cents": theirs.amount_due,
            "amount_paid_cents": theirs.amount_paid,
            "period_starts_at": moment(theirs.period_start),
            "period_ends_at": moment(theirs.period_end),
            "created_at": moment(theirs.created),
            "finalized_at": moment(times.finalized_at),
            "paid_at": moment(times.paid_at),
            "next_attempt_at": moment(theirs.next_payment_attempt),
            "hosted_url": theirs.hosted_invoice_url or "",
            "pdf_url": theirs.invoice_pdf or "",
        },
    )
    return invoice


def _tax_of(theirs: stripe.Invoice) -> int:
    return sum(tax.amount for tax in theirs.total_taxes or [])


def _note_periods(theirs: stripe.Invoice) -> None:
    """Keep the months that an invoice is for: a month whose events came late has its overage too."""
    for line in theirs.lines.data:
        details = line.parent.subscription_item_details if line.parent else None
        price_details = line.pricing.price_details if line.pricing else None
        if details is None or details.proration or price_details is None or not details.subscription:
            continue
        plan = _plan_of_month(id_of(price_details.price))
        is_trial = plan is not None and line.amount == 0 and plan.monthly_price_cents > 0
        if plan is not None and not is_trial:
            overage.note_period(
                stripe_subscription_id=details.subscription,
                starts_at=moment(line.period.start),
                ends_at=moment(line.period.end),
                plan=plan,
                is_current=False,
            )


def _plan_of_month(price_id: str) -> Plan | None:
    """Return the plan whose month a price is for; None for minutes, and for what is not ours."""
    if Plan.objects.filter(stripe_overage_price_id=price_id).exists():
        return None
    if (plan := Plan.objects.filter(stripe_price_id=price_id).first()) is not None:
        return plan
    price = client().v1.prices.retrieve(price_id)  # one that a plan had before
    is_for_a_month = price.recurring is not None and price.recurring.usage_type == "licensed"
    return plan_of_price(price) if is_for_a_month else None
