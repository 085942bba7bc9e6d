"""What this installation measured of itself on the operator's own calls; the home page shows no other figures."""

from __future__ import annotations

import dataclasses
import statistics
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db.models import Sum
from django.utils import timezone

from provisioning.models import Container, CostEntry
from tenants.lookups import house_tenant_id
from tenants.scope import enter_tenant
from voice.models import Call, CallDay

DAYS = 30
# Enough for a median, few enough for a page.
MOST_ROWS = 500
CACHE_SECONDS = 60
ENOUGH_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Boots:
    """Medians of one boot kind: how long callers waited until ready, and how long containers took to start."""

    kind: str
    calls: int
    ready_ms: float | None
    boot_ms: float | None


@dataclasses.dataclass(frozen=True)
class Measured:
    """The last 30 days. Percentiles are None where nothing was measured."""

    calls: int
    first_audio_ms_p50: int | None
    turn_ms_p50: int | None
    turn_ms_p95: int | None
    cost_per_call_nano_dollars: int | None
    fill_percent: int | None
    """The share of running containers' places that calls took."""
    boots: dict[str, Boots]


def measured_here() -> Measured | None:
    """Return the figures of the last 30 days, at most a minute old; None where there was no call yet."""
    return cache.get_or_set("measured-here", _measure, CACHE_SECONDS)


def _measure() -> Measured | None:
    house = house_tenant_id()
    if house is None:
        return None
    now = timezone.now()
    since = now - timedelta(days=DAYS)
    with enter_tenant(house):
        total = CallDay.objects.between(since.date(), now.date() + timedelta(days=1)).total()
        if not total["calls"]:
            return None
        calls = list(
            Call.objects.ended()
            .filter(started_at__gte=since, ready_ms__isnull=False)
            .values_list("boot", "ready_ms")[:MOST_ROWS]
        )
        containers = list(
            Container.objects.filter(started_at__gte=since, boot_ms__isnull=False)
            .order_by("-started_at")
            .values_list("boot", "boot_ms")[:MOST_ROWS]
        )
        fill_percent = _fill_percent(since)
    return Measured(
        calls=total["calls"],
        first_audio_ms_p50=total["first_audio_ms_p50"],
        turn_ms_p50=total["turn_ms_p50"],
        turn_ms_p95=total["turn_ms_p95"],
        cost_per_call_nano_dollars=total["cost_nano_dollars"] // total["calls"],
        fill_percent=fill_percent,
        boots={kind: _boots(kind, calls, containers) for kind in ("warm", "restored", "cold")},
    )


def _fill_percent(since: datetime) -> int | None:
    """Return it over the containers that have stopped; None where they ran for less than an hour in all."""
    stopped = Container.objects.filter(started_at__gte=since, stopped_at__isnull=False).select_related("deployment")
    places_seconds, names = 0.0, []
    for container in stopped.order_by("-started_at")[:MOST_ROWS]:
        lived = (container.stopped_at or container.started_at) - container.started_at
        places_seconds += lived.total_seconds() * container.deployment.spec.get("sessions_per_container", 1)
        names.append(container.name)
    if places_seconds < ENOUGH_SECONDS:
        return None
    active = CostEntry.objects.filter(container__in=names, part=CostEntry.Part.ACTIVE)
    held_ms = active.aggregate(total=Sum("milliseconds"))["total"] or 0
    return max(1, min(100, round(held_ms / 10 / places_seconds)))


def _boots(kind: str, calls: list[tuple[str, int | None]], containers: list[tuple[str, int | None]]) -> Boots:
    ready = [ready_ms for boot, ready_ms in calls if boot == kind and ready_ms is not None]
    started = [boot_ms for boot, boot_ms in containers if boot == kind and boot_ms is not None]
    return Boots(
        kind=kind,
        calls=len(ready),
        ready_ms=statistics.median(ready) if ready else None,
        boot_ms=statistics.median(started) if started else None,
    )
