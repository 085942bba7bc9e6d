"""The figures of a tenant over a span of time: calls and latency from the voice layer, cost from its ledger."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone

from provisioning.models import CostEntry
from tenants.models import Tenant
from voice import buckets
from voice.models import Call, CallDay


@dataclasses.dataclass(frozen=True)
class Span:
    """How far back a page looks, in steps of an hour or a day."""

    name: str
    label: str
    size: str
    steps: int

    def periods(self, now: datetime.datetime) -> list[datetime.datetime]:
        """Return the beginnings of the hours or days up to now, oldest first, in the zone of `now`."""
        if self.size == "hour":
            # In UTC, so that a day with 23 or 25 hours has no hour twice.
            hour = now.astimezone(datetime.UTC).replace(minute=0, second=0, microsecond=0)
            hours = [hour - datetime.timedelta(hours=back) for back in range(self.steps)]
            return [at.astimezone(now.tzinfo) for at in reversed(hours)]
        days = [now.date() - datetime.timedelta(days=back) for back in range(self.steps)]
        return [datetime.datetime.combine(day, datetime.time(), now.tzinfo) for day in reversed(days)]


SPANS = {
    "24h": Span("24h", "24 hours", "hour", 24),
    "7d": Span("7d", "7 days", "day", 7),
    "30d": Span("30d", "30 days", "day", 30),
}


@dataclasses.dataclass(frozen=True)
class Figures:
    """`rows` has one summary for each of `periods` (voice.buckets.summary), `costs` nano-dollars by part."""

    span: Span
    periods: list[datetime.datetime]
    rows: list[dict[str, Any]]
    total: dict[str, Any]
    costs: list[dict[str, int]]
    boots: dict[str, dict[str, Any]]
    """Of the last 24 hours, whatever the span: calls and ready times by boot kind."""

    @property
    def cost_nano_dollars(self) -> int:
        return sum(sum(parts.values()) for parts in self.costs)


NO_CALLS = buckets.summary([])


def figures_of(tenant: Tenant, span: Span, *, now: datetime.datetime | None = None) -> Figures:
    """Return the figures of the entered tenant up to now."""
    zone = ZoneInfo(tenant.time_zone)
    now = (now or timezone.now()).astimezone(zone)
    periods = span.periods(now)
    recent = Call.objects.filter(started_at__gte=SPANS["24h"].periods(now)[0])
    if span.size == "hour":
        found, total = Call.objects.filter(started_at__gte=periods[0]).by_hour(zone)
    else:
        days = CallDay.objects.between(periods[0].date(), now.date())
        found = {_midnight(row["day_date"], zone): row for row in days.by_day()}
        total = days.total()
    return Figures(
        span=span,
        periods=periods,
        rows=[found.get(period, NO_CALLS) for period in periods],
        total=total,
        costs=CostEntry.objects.by_periods(periods),
        boots=recent.by_boot(),
    )


def _midnight(day: datetime.date, zone: ZoneInfo) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), zone)
