"""How long a month of 100,000 calls takes to be rated, sealed, added up by day, and compared with its ledgers."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator

from django.utils import timezone

from benchmarks.figures import Figure
from benchmarks.installation import demo_tenant
from benchmarks.overview import multiply_history
from billing.entitlements import entitlements_of
from billing.models import Subscription
from billing.sealing import SEALED_AFTER, seal_ledgers
from tenants.scope import enter_tenant
from voice import ledger_days
from voice.reconciliation import differences

MONTH = datetime.timedelta(days=31)


def measure() -> Iterator[Figure]:
    tenant = demo_tenant()
    count = multiply_history(tenant)

    def rate() -> None:
        Subscription.objects.update(period_started_at=timezone.now() - MONTH)
        assert entitlements_of().used_minutes > 0

    def compare() -> None:
        assert (found := next(differences(), None)) is None, found

    yield _timed("rated", count, lambda: _in(tenant.id, rate))
    yield _timed("sealed", count, lambda: seal_ledgers(timezone.now() + SEALED_AFTER))
    yield _timed("added up by day", count, lambda: _in(tenant.id, ledger_days.rebuild))
    yield _timed("compared with ledgers, seals and days", count, lambda: _in(tenant.id, compare))


def _in(tenant_id: object, work: Callable[[], object]) -> None:
    with enter_tenant(str(tenant_id)):
        work()


def _timed(what: str, count: int, work: Callable[[], object]) -> Figure:
    began = time.monotonic()
    work()
    return Figure(f"a month of {count:,} calls {what}", time.monotonic() - began, unit="s")
