"""The calendar of a business: who comes when, and what callers left."""

from __future__ import annotations

import datetime
import re
import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.core.validators import RegexValidator
from django.db.models import Max, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agents import calendar as journeys
from agents import scheduling
from agents.models import Appointment, Contact, HandOff, Message, Service
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from web.paging import page_of
from web.week import week_of

CALENDAR_YEARS = range(2000, 2200)
A_PHONE = RegexValidator(r"^\+?[\d\s().-]{7,24}$", "Write it in digits, like +1 555 012 3456.")


def _moment(label: str = "Begins") -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M"],
        error_messages={"invalid": "Write a date and a time."},
    )


class AppointmentForm(forms.Form):
    service = forms.ModelChoiceField(Service.objects.none(), empty_label="Choose a service")
    starts_at = _moment()
    name = forms.CharField(max_length=120)
    phone = forms.CharField(max_length=24, label="Telephone number", validators=[A_PHONE])
    email = forms.EmailField(required=False, label="E-mail address")
    notes = forms.CharField(required=False, max_length=500, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["service"].queryset = Service.objects.filter(is_active=True)  # type: ignore[attr-defined]


class MoveForm(forms.Form):
    starts_at = _moment("Move it to")


@tenant_access(Role.VIEWER)
@require_GET
def calendar(request: TenantRequest) -> HttpResponse:
    try:
        day = datetime.date.fromisoformat(request.GET.get("day", ""))
    except ValueError:
        day = timezone.localdate()
    if day.year not in CALENDAR_YEARS:
        day = timezone.localdate()
    context = {"week": week_of(day), "waiting": count_waiting(), "has_services": Service.objects.exists()}
    return TemplateResponse(request, "web/calendar/calendar.html", context)


def count_waiting() -> int:
    return Message.objects.open().count() + HandOff.objects.open().count()


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def appointment_new(request: TenantRequest) -> HttpResponse:
    form = AppointmentForm(request.POST or None, initial={"starts_at": request.GET.get("at", "")})
    alternatives: list[datetime.datetime] = []
    if request.method == "POST" and form.is_valid():
        try:
            made = journeys.book_by_hand(actor=request.user, **form.cleaned_data)
        except scheduling.NotBookable as refusal:
            form.add_error("starts_at", refusal.sentence)
            alternatives = refusal.alternatives
        else:
            messages.success(request, f"{made.service} for {made.who} is booked.")
            return _to_day(request, made)
    context = {"form": form, "alternatives": alternatives, "waiting": count_waiting()}
    return TemplateResponse(request, "web/calendar/appointment_new.html", context, status=422 if form.errors else 200)


@tenant_access(Role.VIEWER)
@require_GET
def appointment(request: TenantRequest, appointment_id: uuid.UUID) -> HttpResponse:
    found = _appointment(appointment_id)
    return _appointment_page(request, found, MoveForm(initial={"starts_at": timezone.localtime(found.starts_at)}))


def _appointment_page(
    request: TenantRequest,
    found: Appointment,
    form: MoveForm,
    *,
    alternatives: list[datetime.datetime] | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "appointment": found,
        "form": form,
        "alternatives": alternatives or [],
        "can_change": found.status == Appointment.Status.BOOKED and found.ends_at > timezone.now(),
        "waiting": count_waiting(),
    }
    return TemplateResponse(request, "web/calendar/appointment.html", context, status=status)


@tenant_access(Role.DEVELOPER)
@require_POST
def appointment_move(request: TenantRequest, appointment_id: uuid.UUID) -> HttpResponse:
    found = _appointment(appointment_id)
    form, alternatives = MoveForm(request.POST), []
    if form.is_valid():
        try:
            journeys.move_by_hand(appointment=found, starts_at=form.cleaned_data["starts_at"], actor=request.user)
        except scheduling.NotBookable as refusal:
            form.add_error("starts_at", refusal.sentence)
            alternatives = refusal.alternatives
        else:
            messages.success(request, f"{found.who} now comes on {timezone.localtime(found.starts_at):%-d %B, %H:%M}.")
            return _to_day(request, found)
    return _appointment_page(request, found, form, alternatives=alternatives, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def appointment_cancel(request: TenantRequest, appointment_id: uuid.UUID) -> HttpResponse:
    found = _appointment(appointment_id)
    journeys.cancel_by_hand(appointment=found, actor=request.user)
    messages.success(request, f"The appointment of {found.who} is cancelled; the time is free again.")
    return _to_day(request, found)


def _appointment(appointment_id: uuid.UUID) -> Appointment:
    return get_object_or_404(Appointment.objects.select_related("service", "contact"), pk=appointment_id)


def _to_day(request: TenantRequest, found: Appointment) -> HttpResponse:
    day = timezone.localtime(found.starts_at).date()
    response = redirect("web:calendar", tenant_slug=request.tenant.slug)
    response["Location"] += f"?day={day}"
    return response


# --- what callers left -----------------------------------------------------------------------------------------------
@tenant_access(Role.VIEWER)
@require_GET
def inbox(request: TenantRequest) -> HttpResponse:
    """Messages and hand-offs: those that wait first, then the latest of those that are done."""
    left: list[tuple[str, Message | HandOff]] = [
        *(("message", each) for each in Message.objects.select_related("contact")[:100]),
        *(("hand_off", each) for each in HandOff.objects.select_related("contact")[:100]),
    ]
    left.sort(key=lambda each: (each[1].handled_at is not None, -each[1].created_at.timestamp()))
    context = {"left": left, "waiting": count_waiting()}
    return TemplateResponse(request, "web/calendar/inbox.html", context)


@tenant_access(Role.DEVELOPER)
@require_POST
def left_handled(request: TenantRequest, kind: str, left_id: uuid.UUID) -> HttpResponse:
    model: type[Message | HandOff] = Message if kind == "message" else HandOff
    left: Any = get_object_or_404(model, pk=left_id)
    journeys.mark_handled(left=left, actor=request.user)
    return redirect("web:inbox", tenant_slug=request.tenant.slug)


@tenant_access(Role.VIEWER)
@require_GET
def contacts(request: TenantRequest) -> HttpResponse:
    found = Contact.objects.annotate(last_visit=Max("appointments__starts_at")).order_by("-updated_at", "pk")
    if wanted := request.GET.get("q", "").strip():
        digits = re.sub(r"\D", "", wanted)
        matching = Q(name__icontains=wanted) | Q(email__icontains=wanted)
        found = found.filter(matching | Q(phone__contains=digits) if digits else matching)
    context = {"page": page_of(found, request), "wanted": wanted, "waiting": count_waiting()}
    return TemplateResponse(request, "web/calendar/contacts.html", context)
