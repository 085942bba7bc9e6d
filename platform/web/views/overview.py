"""A tenant's first page: how much was talked, how fast, at what cost, and what goes on now."""

from __future__ import annotations

import datetime
from typing import Any

from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET

from agents.models import Agent
from billing.entitlements import Entitlements, entitlements_of
from provisioning.models import CostEntry
from provisioning.standing import pool_standings
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from voice.models import Call
from voice.querysets import SLOW_TURN_MS
from web.charts import Series, bar_chart, line_chart
from web.figures import SPANS, Figures, figures_of
from web.templatetags.warmline import dollars_up_to, milliseconds

BOOT_KINDS = ("warm", "restored", "cold")
PART_TONES = {
    "active": "s1",
    "idle_warm": "warm",
    "cold_start": "cold",
    "model": "s2",
    "telephony": "s4",
    "adjustment": "s6",
}
MOST_LIVE = 8


@tenant_access(Role.VIEWER)
@require_GET
def overview(request: TenantRequest) -> HttpResponse:
    span = SPANS.get(request.GET.get("span", ""), SPANS["24h"])
    figures = figures_of(request.tenant, span)
    entitlements = entitlements_of()
    context = {
        "figures": figures,
        "spans": SPANS.values(),
        **_charts(figures),
        "boots": [{"kind": kind, **figures.boots[kind]} for kind in BOOT_KINDS if kind in figures.boots],
        "cost_per_call": figures.cost_nano_dollars // figures.total["calls"] if figures.total["calls"] else None,
        "pools": pool_standings(),
        "plan": _plan(entitlements),
        "has_agents": Agent.objects.current().exists(),
        **_live(entitlements),
    }
    return TemplateResponse(request, "web/overview/overview.html", context)


@tenant_access(Role.VIEWER)
@require_GET
def live_calls(request: TenantRequest) -> HttpResponse:
    """The part of the overview that says what goes on now; the page fetches it again when something changed."""
    return TemplateResponse(request, "web/overview/_live_calls.html", _live(entitlements_of()))


def _live(entitlements: Entitlements) -> dict[str, Any]:
    live = Call.objects.live()
    return {
        "live_count": live.count(),
        "lines": entitlements.concurrent_calls,
        "live_calls": live.select_related("agent")[:MOST_LIVE],
    }


def _plan(entitlements: Entitlements) -> dict[str, Any]:
    used, included = entitlements.used_minutes, entitlements.included_minutes
    return {
        "name": entitlements.plan.name,
        "used": used,
        "included": included,
        "share": min(100, round(100 * used / included)) if included else 100,
        "over": max(0, used - included),
        "overage_cents": entitlements.overage_cents_per_minute,
        "since": entitlements.period_started_at,
        "refusal": entitlements.refusal,
    }


def _charts(figures: Figures) -> dict[str, Any]:
    labels = [label_of(period, figures.span.size) for period in figures.periods]
    ended_well = [row["calls"] - row["failed_calls"] for row in figures.rows]
    parts = [part for part in CostEntry.Part if any(cost.get(part) for cost in figures.costs)]
    return {
        "latency_chart": line_chart(
            labels,
            [
                Series("Turn, p50", [row["turn_ms_p50"] for row in figures.rows], "s1"),
                Series("Turn, p95", [row["turn_ms_p95"] for row in figures.rows], "s2"),
                Series("First audio, p50", [row["first_audio_ms_p50"] for row in figures.rows], "s3"),
            ],
            number=milliseconds,
            goal=SLOW_TURN_MS,
        ),
        "calls_chart": bar_chart(
            labels,
            [
                Series("Ended well", ended_well, "s1"),
                Series("Went wrong", [row["failed_calls"] for row in figures.rows], "bad"),
            ],
            number="{:,.0f}".format,
        ),
        "cost_chart": bar_chart(
            labels,
            [
                Series(part.label, [cost.get(part, 0) for cost in figures.costs], PART_TONES[part])
                for part in parts or [CostEntry.Part.ACTIVE]
            ],
            number=dollars_up_to(max(sum(cost.values()) for cost in figures.costs)),
        ),
    }


def label_of(period: datetime.datetime, size: str) -> str:
    return f"{period:%H:%M}" if size == "hour" else f"{period:%-d %b}"
