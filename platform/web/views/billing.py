"""The page of a tenant's plan, usage and invoices, what admins do there, and where Stripe's events arrive."""

from __future__ import annotations

import datetime
from typing import Any

import structlog
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from kombu.exceptions import OperationalError

from billing import changing, invoicing, subscribing, syncing, webhooks
from billing.entitlements import entitlements_of
from billing.models import Invoice, Plan, Subscription
from billing.overage import beyond_the_plan, overage_cents
from billing.stripe_api import BillingOff, BillingRefused, is_on
from billing.tasks import process_event
from tenants.access import TenantRequest, internal_access, tenant_access
from tenants.models import Role
from web.paging import page_of

log = structlog.get_logger(__name__)


@csrf_exempt
@internal_access("Stripe signs its events, and the signature is checked")
@require_POST
def stripe_events(request: HttpRequest) -> HttpResponse:
    """Keep an event and answer at once: what is made of it is a task's business."""
    try:
        event, is_new = webhooks.receive_event(body=request.body, signature=request.headers.get("Stripe-Signature", ""))
    except BillingOff as off:
        return HttpResponse(f"{off}\n", status=404, content_type="text/plain")
    except webhooks.BadSignature as problem:
        log.warning("stripe.bad_signature", problem=str(problem))
        return HttpResponse("The signature does not fit.\n", status=400, content_type="text/plain")
    if is_new:
        # Its transaction stands. Should the queue be away, beat finds the event.
        try:
            process_event.delay(event_id=event.pk)
        except OperationalError as problem:
            log.warning("stripe.event_not_queued", event_id=event.pk, problem=str(problem))
    return HttpResponse("Kept.\n", content_type="text/plain")


@tenant_access(Role.VIEWER)
@require_GET
def billing(request: TenantRequest) -> HttpResponse:
    if request.GET.get("checkout"):
        return _back_from_checkout(request)
    subscription = Subscription.objects.select_related("plan", "next_plan").get()
    entitlements = entitlements_of()
    used, over_seconds = entitlements.used_seconds, beyond_the_plan(subscription, entitlements.used_seconds)
    context = {
        "billing_is_on": is_on(),
        "subscription": subscription,
        "entitlements": entitlements,
        "over_minutes": -(-over_seconds // 60),
        "over_cents": overage_cents(over_seconds, entitlements.plan),
        "share": min(100, 100 * used // (60 * entitlements.included_minutes)) if entitlements.included_minutes else 100,
        "plans": Plan.objects.offered_to(request.tenant.pk),
        "may_keep_trial": subscribing.may_keep_trial(subscription),
        "unpaid": Invoice.objects.unpaid().first(),
        "page": page_of(Invoice.objects.issued().prefetch_related("refunds"), request, size=24),
    }
    return TemplateResponse(request, "web/billing/billing.html", context)


def _back_from_checkout(request: TenantRequest) -> HttpResponse:
    """Ask Stripe now how it went: its event may be on its way still."""
    try:
        subscription = syncing.sync_subscription()
    except BillingRefused as problem:
        log.warning("billing.not_synced", problem=str(problem))
    else:
        if subscription.next_plan is not None:
            messages.success(request, f"Thank you. {subscription.next_plan.name} begins when the trial ends.")
        elif subscription.is_billed_by_stripe:
            messages.success(request, f"Thank you. You are on {subscription.plan.name}.")
    return redirect("web:billing", tenant_slug=request.tenant.slug)


@tenant_access(Role.VIEWER)
@require_GET
def next_invoice(request: TenantRequest) -> HttpResponse:
    """The part of the page that Stripe has to be asked for."""
    context: dict[str, Any] = {}
    try:
        context["next"] = invoicing.preview_next()
    except BillingRefused as refusal:
        context["refusal"] = str(refusal)
    return TemplateResponse(request, "web/billing/_next_invoice.html", context)


@tenant_access(Role.ADMIN)
@require_POST
def billing_subscribe(request: TenantRequest) -> HttpResponse:
    plan = get_object_or_404(Plan.objects.offered_to(request.tenant.pk), pk=request.POST.get("plan", ""))
    try:
        address = subscribing.start_checkout(
            plan=plan,
            actor=request.user,
            return_url=_absolute(request),
            keep_trial=request.POST.get("begins") == "after_trial",
        )
    except BillingRefused as refusal:
        return _refused(request, refusal)
    return _to_stripe(address)


@tenant_access(Role.ADMIN)
@require_http_methods(["GET", "POST"])
def billing_change(request: TenantRequest, plan_slug: str) -> HttpResponse:
    """Show what a change of plan costs, and make it."""
    plan = get_object_or_404(Plan.objects.offered_to(request.tenant.pk), pk=plan_slug)
    try:
        if request.method == "POST":
            changing.change_plan(plan=plan, actor=request.user, proration_at=_moment(request.POST.get("at", "")))
            messages.success(request, f"You are on {plan.name} now.")
            return redirect("web:billing", tenant_slug=request.tenant.slug)
        change = changing.preview_change(plan=plan)
    except BillingRefused as refusal:
        return _refused(request, refusal)
    subscription = Subscription.objects.select_related("plan").get()
    context = {"change": change, "subscription": subscription, "plan": plan}
    return TemplateResponse(request, "web/billing/change.html", context)


@tenant_access(Role.ADMIN)
@require_POST
def billing_cancel(request: TenantRequest) -> HttpResponse:
    """Cancel at the end of the period, or take that back."""
    try:
        if request.POST.get("action") == "keep":
            subscribing.keep_on(actor=request.user)
            messages.success(request, "The subscription goes on.")
        else:
            subscription = subscribing.cancel(actor=request.user)
            ends_at = timezone.localtime(subscription.cancels_at or subscription.period_ends_at)
            messages.success(request, f"The subscription ends on {ends_at:%-d %B %Y}. Calls go on until then.")
    except BillingRefused as refusal:
        return _refused(request, refusal)
    return redirect("web:billing", tenant_slug=request.tenant.slug)


@tenant_access(Role.ADMIN)
@require_POST
def billing_portal(request: TenantRequest) -> HttpResponse:
    try:
        return _to_stripe(subscribing.open_portal(return_url=_absolute(request)))
    except BillingRefused as refusal:
        return _refused(request, refusal)


def _refused(request: TenantRequest, refusal: BillingRefused) -> HttpResponse:
    messages.error(request, str(refusal))
    return redirect("web:billing", tenant_slug=request.tenant.slug)


def _absolute(request: TenantRequest) -> str:
    return settings.PUBLIC_URL + reverse("web:billing", kwargs={"tenant_slug": request.tenant.slug})


def _to_stripe(address: str) -> HttpResponse:
    return HttpResponseRedirect(address, status=303)


def _moment(said: str) -> datetime.datetime | None:
    """Return the moment that a preview was counted for, if it is one of the last hour."""
    try:
        at = datetime.datetime.fromtimestamp(int(said), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return at if datetime.timedelta() <= timezone.now() - at < datetime.timedelta(hours=1) else None
