"""The operator's statement of what was earned against what was spent."""

from __future__ import annotations

import datetime

from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from provisioning.models import CostEntry
from tenants.access import SignedInRequest, operator_access
from web.margin import PARTS, margin_of

WAYS = {"tenant": "Tenants", "agent": "Agents", "plan": "Plans", "day": "Days"}
SPANS = {"7d": 7, "30d": 30, "90d": 90}


@operator_access
@require_GET
def margin(request: SignedInRequest) -> HttpResponse:
    by, span = request.GET.get("by", ""), request.GET.get("span", "")
    by, span = by if by in WAYS else "tenant", span if span in SPANS else "30d"
    until = timezone.now().astimezone(datetime.UTC).date()
    context = {
        "margin": margin_of(until - datetime.timedelta(days=SPANS[span] - 1), until, by=by),
        "by": by,
        "ways": WAYS.items(),
        "span": span,
        "spans": [(name, f"{days} days") for name, days in SPANS.items()],
        "parts": [(part, CostEntry.Part(part).label) for part in PARTS],
    }
    return TemplateResponse(request, "web/fleet/margin.html", context)
