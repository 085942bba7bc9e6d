"""Background work of billing: sealing ledgers, events from Stripe, overage to its meter, mails, and comparing."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import structlog
from celery import shared_task
from django.utils import timezone

from billing import affiliates, caps, notices, overage, sealing, syncing, webhooks
from billing.models import BillingPeriod, OverageReport, StripeEvent, Subscription
from billing.stripe_api import BillingRefused, StripeAway, is_on
from tenants.scope import enter_operator, enter_tenant
from tenants.tasks import every

log = structlog.get_logger(__name__)

MINUTE = 60.0
EVENTS_KEPT_DAYS = 90
QUEUE_LOST = datetime.timedelta(minutes=2)
"""An event that waits for longer has fallen out of the queue, or failed."""


BEAT_SCHEDULE = {
    "warn of caps": every(2 * MINUTE, "billing.warn_of_caps"),
    "seal ledgers": every(10 * MINUTE, "billing.seal_ledgers"),
    "process billing events": every(MINUTE, "billing.process_events"),
    "report overage": every(MINUTE, "billing.report_overage"),
    "send billing notices": every(10 * MINUTE, "billing.send_notices"),
    "collect affiliates' earnings": every(60 * MINUTE, "billing.collect_earnings"),
    "compare with Stripe": every(6 * 60 * MINUTE, "billing.compare_with_stripe"),
}


@shared_task(name="billing.seal_ledgers")
def seal_ledgers() -> int:
    return sealing.seal_ledgers()


@shared_task(name="billing.warn_of_caps")
def warn_of_caps() -> int:
    """Mail the owners of tenants whose calls have passed a soft cap, and return of how many."""
    return sum(caps.warn_owners_of(tenant_id) for tenant_id in caps.tenants_to_warn())


@shared_task(
    name="billing.process_event", autoretry_for=(StripeAway,), retry_backoff=5, retry_backoff_max=300, max_retries=8
)
def process_event(*, event_id: str) -> None:
    webhooks.process_event(event_id)


@shared_task(name="billing.process_events")
def process_events() -> int:
    """Process what fell out of the queue or failed before, oldest first, and forget what is old; return how many."""
    with enter_operator("beat", reason="find events that wait"):
        waiting = StripeEvent.objects.unprocessed().filter(
            received_at__lt=timezone.now() - QUEUE_LOST, attempts__lt=StripeEvent.MOST_ATTEMPTS
        )
        ids = list(waiting.order_by("received_at").values_list("pk", flat=True)[:200])
        old = timezone.now() - datetime.timedelta(days=EVENTS_KEPT_DAYS)
        StripeEvent.objects.filter(processed_at__lt=old).delete()
    for event_id in ids:
        try:
            webhooks.process_event(event_id)
        except Exception:
            log.exception("stripe.event_failed", event_id=event_id)
    return len(ids)


@shared_task(name="billing.report_overage")
def report_overage() -> int:
    """Tell Stripe's meter what tenants used beyond their minutes; return the seconds. Each tenant by itself."""
    if not is_on():
        return 0
    since = timezone.now() - overage.LATE
    with enter_operator("beat", reason="find tenants with a billing period"):
        metered = set(BillingPeriod.objects.filter(ends_at__gt=since).values_list("tenant_id", flat=True))
        metered |= set(OverageReport.objects.unsent().values_list("tenant_id", flat=True))
    return sum(_for_each(metered, report_overage_of))


def report_overage_of(tenant_id: uuid.UUID) -> int:
    with enter_tenant(tenant_id):
        seconds = overage.report_overage()
    while True:
        with enter_tenant(tenant_id):
            if not overage.note_attempt():
                return seconds
        with enter_tenant(tenant_id):
            overage.send_next_report()


@shared_task(name="billing.send_notices")
def send_notices() -> int:
    """Tell owners by mail what ends and when; return how many mails went."""
    with enter_operator("beat", reason="find tenants that are to be told something"):
        told = set(Subscription.objects.ending().values_list("tenant_id", flat=True))
    return sum(_for_each(told, send_notices_of))


def send_notices_of(tenant_id: uuid.UUID) -> int:
    with enter_tenant(tenant_id):
        due = notices.due_notices()
    sent = 0
    for notice in due:
        # Each in a transaction of its own: a mail that fails is sent next time, and the others are not sent twice.
        with enter_tenant(tenant_id):
            sent += notices.send_once(notice)
    return sent


@shared_task(name="billing.collect_earnings")
def collect_earnings() -> int:
    return affiliates.collect_earnings()


@shared_task(name="billing.compare_with_stripe")
def compare_with_stripe() -> int:
    """Ask Stripe about every subscription, for those whose events never came; return how many were asked about."""
    if not is_on():
        return 0
    with enter_operator("beat", reason="find subscriptions at Stripe"):
        known = set(Subscription.objects.exclude(stripe_customer_id="").values_list("tenant_id", flat=True))
    return len(_for_each(known, sync_subscription_of))


def sync_subscription_of(tenant_id: uuid.UUID) -> None:
    with enter_tenant(tenant_id):
        syncing.sync_subscription()


def _for_each(tenant_ids: set[uuid.UUID], work: Any) -> list[Any]:
    """Do something for each tenant; what fails for one is logged, and is no reason to leave out the others."""
    done = []
    for tenant_id in sorted(tenant_ids):
        try:
            done.append(work(tenant_id))
        except BillingRefused as problem:
            log.warning("billing.left_for_later", tenant_id=str(tenant_id), work=work.__name__, problem=str(problem))
        except Exception:
            log.exception("billing.failed", tenant_id=str(tenant_id), work=work.__name__)
    return done
