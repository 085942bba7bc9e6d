"""The operator's page: all tenants' pools, live calls, latency and cost."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from tenants import standing
from tenants.access import operator_access
from tenants.models import Tenant
from voice.buckets import summary
from voice.models import Call
from voice.querysets import SLOW_TURN_MS
from web.charts import Series, bar_chart, line_chart
from web.fleet import Fleet, fleet_now
from web.figures import SPANS
from web.templatetags.warmline import dollars, milliseconds
from web.views.overview import BOOT_KINDS

MOST_LIVE = 20


@operator_access
@require_GET
def fleet(request: HttpRequest) -> HttpResponse:
    now = fleet_now()
    context = {
        "fleet": now,
        "boots": [{"kind": kind, **now.boots[kind]} for kind in BOOT_KINDS if kind in now.boots],
        **_charts(now),
        **_live(),
    }
    return TemplateResponse(request, "web/fleet/fleet.html", context)


@operator_access
@require_GET
def fleet_live_calls(request: HttpRequest) -> HttpResponse:
    """The part of the page that says who talks now; the page fetches it again when a call changed."""
    return TemplateResponse(request, "web/fleet/_live_calls.html", _live())


@operator_access
@require_POST
def tenant_standing(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Suspend a tenant, or restore it."""
    tenant = get_object_or_404(Tenant, pk=tenant_id)
    if request.POST.get("action") == "restore":
        standing.restore_tenant(tenant=tenant, actor=request.user)
        messages.success(request, f"{tenant.name} is restored: its calls are taken again.")
    else:
        standing.suspend_tenant(tenant=tenant, actor=request.user, reason=request.POST.get("reason", ""))
        messages.success(request, f"{tenant.name} is suspended. Live calls go on to their end; new ones are refused.")
    return redirect("web:fleet")


def _live() -> dict[str, Any]:
    live = Call.objects.live()
    return {"live_count": live.count(), "live_calls": live.select_related("agent", "tenant")[:MOST_LIVE]}


def _charts(now: Fleet) -> dict[str, Any]:
    periods = SPANS["24h"].periods(timezone.now().astimezone(datetime.UTC))
    labels = [f"{period:%H:%M}" for period in periods]
    rows = [now.hours.get(period) or summary([]) for period in periods]
    return {
        "latency_chart": line_chart(
            labels,
            [
                Series("Turn, p50", [row["turn_ms_p50"] for row in rows], "s1"),
                Series("Turn, p95", [row["turn_ms_p95"] for row in rows], "s2"),
                Series("First audio, p50", [row["first_audio_ms_p50"] for row in rows], "s3"),
            ],
            number=milliseconds,
            goal=SLOW_TURN_MS,
        ),
        "calls_chart": bar_chart(
            labels,
            [
                Series("Ended well", [row["calls"] - row["failed_calls"] for row in rows], "s1"),
                Series("Went wrong", [row["failed_calls"] for row in rows], "bad"),
            ],
            number="{:,.0f}".format,
        ),
        "cost_chart": bar_chart(
            labels,
            [
                Series(
                    "Spent", [sum(now.costs.get(period, {}).values()) for period in periods], "s1"
                )
            ],
            number=lambda value: dollars(round(value)),
        ),
    }
