"""Pages of affiliates, and the operator's of all of them."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from billing import affiliates as journeys
from billing.models import Affiliate
from billing.partners import SHARE_PERCENT
from tenants.access import SignedInRequest, anonymous_allowed, operator_access, signed_in
from web.referrals import KEPT_SECONDS, remember_referral


@anonymous_allowed("the programme is for everybody; what somebody earned is shown to them alone")
@require_GET
def affiliate(request: HttpRequest) -> HttpResponse:
    context: dict[str, Any] = {"share_percent": SHARE_PERCENT, "kept_days": KEPT_SECONDS // 86_400}
    own = Affiliate.objects.filter(user=request.user.pk).first() if request.user.is_authenticated else None
    if own is not None:
        statements = journeys.statements_of(own)
        context |= {
            "affiliate": own,
            "share_percent": own.share_percent,
            "link": request.build_absolute_uri(reverse("web:via", args=[own.code])),
            "brought": journeys.brought_by(own),
            "statements": statements,
            "owed": journeys.owed_cents(statements),
        }
    return TemplateResponse(request, "web/affiliates/affiliate.html", context)


@signed_in
@require_POST
def affiliate_join(request: SignedInRequest) -> HttpResponse:
    journeys.join(user=request.user)
    messages.success(request, "You are an affiliate: this is your link.")
    return redirect("web:affiliate")


@anonymous_allowed("a link that an affiliate gave to a visitor")
@require_GET
def via(request: HttpRequest, code: str) -> HttpResponse:
    """Remember who sent a visitor, and show the home page."""
    response = redirect("web:home")
    remember_referral(request, response, code)
    return response


@operator_access
@require_GET
def fleet_affiliates(request: SignedInRequest) -> HttpResponse:
    statements = journeys.all_statements()
    context = {"statements": statements, "owed": journeys.owed_cents(statements), "count": Affiliate.objects.count()}
    return TemplateResponse(request, "web/affiliates/fleet_affiliates.html", context)


@operator_access
@require_POST
def fleet_payout(request: SignedInRequest, affiliate_id: int, month_date: str, currency: str) -> HttpResponse:
    """Mark a statement as paid."""
    try:
        payout = journeys.mark_paid(
            affiliate=get_object_or_404(Affiliate, pk=affiliate_id),
            month_date=datetime.date.fromisoformat(month_date),
            currency=currency,
            reference=request.POST.get("reference", ""),
            actor=request.user,
        )
    except ValueError as problem:  # a date that is none, too
        messages.error(request, str(problem))
    else:
        messages.success(request, f"{payout} is marked as paid.")
    return redirect("web:fleet_affiliates")
