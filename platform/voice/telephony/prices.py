"""Asking a carrier, a while after a call, what it billed."""

from __future__ import annotations

import structlog
from celery import Task, shared_task
from django.utils import timezone

from tenants.tasks import TenantTask
from voice.telephony.carriers import CARRIERS, account_of
from voice.telephony.carriers.contract import CarrierRefused
from voice.telephony.costs import record_price
from voice.telephony.models import TelephoneLeg

log = structlog.get_logger(__name__)

PRICE_AFTER_SECONDS = 120
"""Carriers settle a call's price a while after its end."""
MOST_PRICE_TRIES = 6


@shared_task(base=TenantTask, bind=True, max_retries=MOST_PRICE_TRIES, name="voice.telephony.enter_price")
def enter_price(self: Task, *, leg_id: str) -> None:
    """Enter the carrier's own price of a finished leg, once it has one."""
    leg = TelephoneLeg.objects.filter(pk=leg_id, carrier__in=CARRIERS).first()
    account = account_of(leg.carrier) if leg else None
    if leg is None or account is None or leg.ended_at is None:
        return
    age_seconds = (timezone.now() - leg.ended_at).total_seconds()
    price = None
    if age_seconds >= PRICE_AFTER_SECONDS:
        try:
            price = CARRIERS[leg.carrier].api.fetch_call(account, leg.carrier_ref).price_dollars
        except CarrierRefused as problem:
            log.warning("telephony.no_price", leg=leg_id, problem=str(problem))
            if problem.permanent and not problem.is_unknown:
                return
    # Some carriers do not know a call at once, or say that it cost nothing until they have settled it.
    is_settled = price is not None and (price or not leg.carrier_seconds)
    if not is_settled and self.request.retries < MOST_PRICE_TRIES:
        raise self.retry(kwargs={"leg_id": leg_id, "tenant_id": str(leg.tenant_id)}, countdown=PRICE_AFTER_SECONDS)
    if not is_settled:
        log.warning("telephony.price_not_settled", leg=leg_id, price=None if price is None else str(price))
    if price is not None:
        record_price(leg, price)
