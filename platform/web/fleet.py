"""The whole installation at a glance, for its operator. Runs in the operator's scope, which sees every tenant."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Count, Sum
from django.utils import timezone

from billing.models import Subscription, Usage
from provisioning.models import CostEntry
from provisioning.standing import PoolStanding, pool_standings
from tenants.models import Tenant
from voice.models import Call
from web.figures import NO_CALLS, SPANS

HOURS = 24
UTC = ZoneInfo("UTC")


@dataclasses.dataclass(frozen=True)
class TenantLine:
    """What one tenant has: its plan, and its calls, minutes and cost of the last day."""

    tenant: Tenant
    plan: str
    subscription_status: str
    live: int
    calls: int
    minutes: int
    cost_nano_dollars: int


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The last 24 hours, and now."""

    total: dict[str, Any]
    boots: dict[str, dict[str, Any]]
    periods: list[datetime.datetime]
    rows: list[dict[str, Any]]
    """A summary for each of the hours in `periods` (voice.buckets.summary)."""
    costs: list[dict[str, int]]
    pools: list[PoolStanding]
    tenants: list[TenantLine]

    @property
    def cost_nano_dollars(self) -> int:
        return sum(sum(parts.values()) for parts in self.costs)

    @property
    def containers(self) -> list[tuple[str, int]]:
        """Containers by state, those that are there."""
        states = ("ready", "starting", "draining")
        counts = [(state, sum(standing.containers[state] for standing in self.pools)) for state in states]
        return [(state, count) for state, count in counts if count]


def fleet_now(now: datetime.datetime | None = None) -> Fleet:
    now = (now or timezone.now()).astimezone(UTC)
    since = now - datetime.timedelta(hours=HOURS)
    periods = SPANS["24h"].periods(now)
    recent = Call.objects.filter(started_at__gte=since)
    hours, total = recent.by_hour(UTC)
    return Fleet(
        total=total,
        boots=recent.by_boot(),
        periods=periods,
        rows=[hours.get(period, NO_CALLS) for period in periods],
        costs=CostEntry.objects.by_periods(periods),
        pools=pool_standings(),
        tenants=_tenant_lines(since),
    )


def _tenant_lines(since: datetime.datetime) -> list[TenantLine]:
    subscriptions = {each.tenant_id: each for each in Subscription.objects.select_related("plan")}
    calls = _by_tenant(Call.objects.filter(started_at__gte=since), Count("pk"))
    live = _by_tenant(Call.objects.live(), Count("pk"))
    seconds = _by_tenant(Usage.objects.filter(kind=Usage.Kind.CALL_SECONDS, occurred_at__gte=since), Sum("quantity"))
    costs = _by_tenant(CostEntry.objects.since(since), Sum("nano_dollars"))
    lines = [
        TenantLine(
            tenant=tenant,
            plan=subscriptions[tenant.pk].plan.name if tenant.pk in subscriptions else "",
            subscription_status=subscriptions[tenant.pk].status if tenant.pk in subscriptions else "",
            live=live.get(tenant.pk, 0),
            calls=calls.get(tenant.pk, 0),
            minutes=seconds.get(tenant.pk, 0) // 60,
            cost_nano_dollars=costs.get(tenant.pk, 0),
        )
        for tenant in Tenant.objects.all()
    ]
    return sorted(lines, key=lambda line: (-line.cost_nano_dollars, line.tenant.name))


def _by_tenant(rows: Any, figure: Any) -> dict[uuid.UUID, int]:
    return {
        tenant_id: int(value or 0)
        for tenant_id, value in rows.order_by().values_list("tenant_id").annotate(figure=figure)
    }
