"""Reading what providers charge today, once a day, into dated lists: a change begins on the day it was seen."""

from __future__ import annotations

import datetime

import structlog
from asgiref.sync import async_to_sync
from django.utils import timezone

from provisioning.backends import make_backend
from provisioning.backends.contract import BackendError, Rates
from provisioning.models import BackendStanding, Pool, PriceList
from tenants.scope import atomic, enter_operator

log = structlog.get_logger(__name__)

EVERY = datetime.timedelta(hours=23)


def read_prices(at: datetime.datetime | None = None) -> int:
    """Ask each backend that has pools, unless that was done today; return how many price lists have changed."""
    at = at or timezone.now()
    with enter_operator("beat", reason="read prices"):
        backends = Pool.objects.order_by().values_list("backend", flat=True).distinct()
        return sum(_read(backend, at) for backend in backends)


def _read(backend: str, at: datetime.datetime) -> bool:
    standing, _ = BackendStanding.objects.get_or_create(backend=backend)
    if standing.prices_read_at is not None and standing.prices_read_at > at - EVERY:
        return False
    try:
        rates = async_to_sync(_ask)(backend)
    except BackendError as problem:
        # The table goes on being used; the next hour asks again.
        log.info("prices.not_read", backend=backend, problem=problem.sentence)
        return False
    with atomic():
        standing.prices_read_at = at
        standing.save(update_fields=["prices_read_at"])
        return rates is not None and _keep(backend, rates, at.date())


def _keep(backend: str, rates: Rates, day: datetime.date) -> bool:
    if rates.unknown:
        log.warning("prices.unknown", backend=backend, names=rates.unknown)
    document = PriceList.document_of(rates)
    last = PriceList.objects.in_force(backend, day)
    if last is not None and last.rates == document:
        return False
    PriceList.objects.update_or_create(backend=backend, since=day, defaults={"rates": document})
    log.info("prices.changed", backend=backend, since=day.isoformat())
    return True


async def _ask(name: str) -> Rates | None:
    async with make_backend(name) as backend:
        return await backend.rates()
