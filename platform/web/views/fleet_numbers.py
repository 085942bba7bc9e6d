"""The operator's page of telephone numbers that trunks bring: whose they are."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.db.models import BooleanField, Case, Q, Value, When
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_POST

from tenants.access import SignedInRequest, operator_access
from voice.telephony import numbers as journeys
from voice.telephony.models import Carrier, TelephoneNumber
from web.paging import page_of


@operator_access
@require_GET
def fleet_numbers(request: SignedInRequest) -> HttpResponse:
    waiting = TelephoneNumber.objects.filter(standing=TelephoneNumber.Standing.WAITING)
    # Everybody with a number that somebody waits for stands beside them, also with a carrier's account.
    is_open = Q(number__in=waiting.order_by().values("number"))
    rows = (
        TelephoneNumber.objects.filter(Q(carrier=Carrier.SIP) | is_open)
        .select_related("tenant")
        .annotate(is_open=Case(When(is_open, then=Value(True)), default=Value(False), output_field=BooleanField()))
        .order_by("-is_open", "number", "created_at")
    )
    context = {"page": page_of(rows, request), "waiting_count": waiting.count()}
    return TemplateResponse(request, "web/fleet/numbers.html", context)


@operator_access
@require_POST
def number_standing(request: SignedInRequest, number_id: uuid.UUID) -> HttpResponse:
    """Confirm that a number is its tenant's, or refuse it."""
    number = get_object_or_404(TelephoneNumber.objects.select_related("tenant"), pk=number_id)
    if request.POST.get("action") == "confirm":
        try:
            journeys.confirm_number(number=number, actor=request.user)
        except journeys.NumberTaken as problem:
            messages.error(request, str(problem))
        else:
            messages.success(request, f"{number} is confirmed: its calls come to {number.tenant.name}.")
    elif request.POST.get("action") == "refuse":
        journeys.refuse_number(number=number, actor=request.user)
        messages.success(request, f"{number} is refused: no call of it comes to {number.tenant.name}.")
    else:
        messages.error(request, "Choose whether to confirm the number or to refuse it.")
    return redirect("web:fleet_numbers")
