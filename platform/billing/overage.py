"""Minutes beyond the included ones: how many a period has, and telling Stripe's meter of each second once.

What was told stands in OverageReport, written before it is sent: a report that was cut off is sent again under its own
identifier, which Stripe takes once. The sums are made of the usage ledger each time, so a late or a corrected entry
finds its way by itself.
"""

from __future__ import annotations

import datetime

from django.utils import timezone

from billing.models import BillingPeriod, OverageReport, Plan, Subscription, Usage
from billing.stripe_api import client, speaking_to_stripe

METER_EVENT = "warmline_overage_seconds"
"""The event name of the meter: seconds, summed up over a customer's billing period."""

FINALIZING = datetime.timedelta(minutes=50)
"""Stripe finalizes an invoice an hour after its period: what is told until then still counts for that period."""

LATE = datetime.timedelta(days=30)
"""How long after its end a period is looked at again. Stripe takes meter events up to 35 days old."""

IDENTIFIER_KEPT = datetime.timedelta(hours=23)
"""Stripe knows an identifier again for a day at least. What was tried longer ago may have arrived: people decide."""


def overage_cents(seconds: int, plan: Plan) -> int:
    """Return the price of seconds beyond the included ones, rounded half up once, as Stripe rounds a line."""
    return (2 * seconds * plan.overage_cents_per_minute + 60) // 120


def note_period(
    *,
    stripe_subscription_id: str,
    starts_at: datetime.datetime,
    ends_at: datetime.datetime,
    plan: Plan,
    is_current: bool,
) -> BillingPeriod:
    """Keep a period of the entered tenant. `is_current`: the plan is the one that it is on now.

    When the plan changes within the period, what was used of the earlier plan's minutes stays included.
    """
    included = 60 * plan.included_minutes if plan.has_overage else None
    # Periods never overlap, or a second would count twice: a changed billing day, or subscribing anew after an end in
    # the middle, cuts the one before short.
    BillingPeriod.objects.filter(starts_at__lt=starts_at, ends_at__gt=starts_at).update(ends_at=starts_at)
    following = BillingPeriod.objects.filter(starts_at__gt=starts_at).order_by("starts_at").first()
    if following is not None:
        ends_at = min(ends_at, following.starts_at)
    period, is_new = BillingPeriod.objects.get_or_create(
        stripe_subscription_id=stripe_subscription_id,
        starts_at=starts_at,
        defaults={"ends_at": ends_at, "included_seconds": included},
    )
    if is_current and not is_new:
        before = period.included_seconds
        if included is not None and (before is None or before > included):
            used = _used_seconds(period)
            included = max(included, used if before is None else min(used, before))
        if (included, ends_at) != (before, period.ends_at):
            period.included_seconds, period.ends_at = included, ends_at
            period.save(update_fields=["included_seconds", "ends_at"])
    return period


def overage_seconds(period: BillingPeriod) -> int:
    """Return the seconds of a period that its plans did not include: as reported, or more."""
    reported = OverageReport.objects.filter(period=period).total_seconds()
    if period.included_seconds is None:
        return reported
    return max(reported, _used_seconds(period) - period.included_seconds)


def beyond_the_plan(subscription: Subscription, used_seconds: int) -> int:
    """Return what the entered tenant has used beyond its minutes in the running period, billed by Stripe or not."""
    period = BillingPeriod.objects.filter(
        stripe_subscription_id=subscription.stripe_subscription_id, starts_at=subscription.period_started_at
    ).first()
    if period is not None:
        return overage_seconds(period)
    return max(0, used_seconds - 60 * subscription.plan.included_minutes) if subscription.plan.has_overage else 0


def report_overage(*, now: datetime.datetime | None = None) -> int:
    """Write down what the entered tenant used beyond its minutes and no report holds yet; return the seconds.

    `send_next_report` sends it, once the transaction of this stands.
    """
    now = now or timezone.now()
    # One at a time, or two would report the same seconds.
    Subscription.objects.select_for_update().get()
    total = 0
    for period in BillingPeriod.objects.filter(ends_at__gt=now - LATE):
        seconds = overage_seconds(period) - OverageReport.objects.filter(period=period).total_seconds()
        if seconds > 0:
            OverageReport.objects.create(period=period, seconds=seconds, metered_at=metered_at(period, now))
            total += seconds
    return total


def note_attempt() -> bool:
    """Note that the entered tenant's oldest report is about to be sent; return whether there is one.

    In a transaction of its own, before `send_next_report`: a report that may have arrived is known by it.
    """
    report = OverageReport.objects.sendable(IDENTIFIER_KEPT).first()
    if report is not None and report.tried_at is None:
        report.tried_at = timezone.now()
        report.save(update_fields=["tried_at"])
    return report is not None


def send_next_report() -> None:
    """Send the entered tenant's oldest report to the meter.

    Raises:
        StripeAway, StripeRefused, BillingOff
    """
    report = OverageReport.objects.sendable(IDENTIFIER_KEPT).select_for_update().first()
    if report is None:
        return
    with speaking_to_stripe():
        _meter(report, Subscription.objects.get().stripe_customer_id)
    report.sent_at = timezone.now()
    report.save(update_fields=["sent_at"])


def _meter(report: OverageReport, customer_id: str) -> None:
    """Tell the meter. The identifier is what makes it count once, for a day; a key of the SDK's own covers one call.

    A key that outlived the call would bring back the answer of a call that failed.
    """
    import stripe

    try:
        client().v1.billing.meter_events.create(
            {
                "event_name": METER_EVENT,
                "identifier": str(report.pk),
                "timestamp": int(report.metered_at.timestamp()),
                "payload": {"stripe_customer_id": customer_id, "value": str(report.seconds)},
            }
        )
    except stripe.InvalidRequestError as problem:
        # Stripe refuses an identifier that it has, and gives the refusal no code in this version of its API.
        if problem.code != "duplicate_meter_event" and f"already exists with identifier {report.pk}" not in str(
            problem
        ):
            raise


def metered_at(period: BillingPeriod, now: datetime.datetime) -> datetime.datetime:
    """Return the moment to tell Stripe: within the period, as long as its invoice is a draft; else now."""
    last = period.ends_at - datetime.timedelta(seconds=1)
    return min(now, last) if now < period.ends_at + FINALIZING else now


def _used_seconds(period: BillingPeriod) -> int:
    entries = Usage.objects.filter(occurred_at__gte=period.starts_at, occurred_at__lt=period.ends_at)
    return entries.total(Usage.Kind.CALL_SECONDS)
