"""The operator's page: all tenants' pools, live calls, latency and cost."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_POST

from provisioning.importing import bill_problems
from tenants import standing
from tenants.access import SignedInRequest, operator_access
from tenants.models import Tenant
from voice.models import Call
from voice.querysets import SLOW_TURN_MS
from voice.telephony.models import TelephoneNumber
from web.charts import Series, bar_chart, line_chart
from web.fleet import Fleet, fleet_now
from web.templatetags.warmline import dollars_up_to, milliseconds
from web.views.overview import BOOT_KINDS

MOST_LIVE = 20


@operator_access
@require_GET
def fleet(request: SignedInRequest) -> HttpResponse:
    now = fleet_now()
    context = {
        "fleet": now,
        "bill_problems": bill_problems(),
        "waiting_numbers": TelephoneNumber.objects.filter(standing=TelephoneNumber.Standing.WAITING).count(),
        "boots": [{"kind": kind, **now.boots[kind]} for kind in BOOT_KINDS if kind in now.boots],
        **_charts(now),
        **_live(),
    }
    return TemplateResponse(request, "web/fleet/fleet.html", context)


@operator_access
@require_GET
def fleet_live_calls(request: SignedInRequest) -> HttpResponse:
    """The part of the page that says who talks now; the page fetches it again when a call changed."""
    return TemplateResponse(request, "web/fleet/_live_calls.html", _live())


@operator_access
@require_POST
def tenant_standing(request: SignedInRequest, tenant_id: str) -> HttpResponse:
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
    labels = [f"{period:%H:%M}" for period in now.periods]
    rows, spent = now.rows, [sum(parts.values()) for parts in now.costs]
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
            [Series("Spent", spent, "s1")],
            number=dollars_up_to(max(spent)),
        ),
    }
