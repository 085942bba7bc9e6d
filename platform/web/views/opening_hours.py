"""When a business is open and when not, and the services that it offers."""

from __future__ import annotations

import datetime
import re
import uuid
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agents import calendar as journeys
from agents.models import Closure, OpeningHours, Service
from agents.models.scheduling import WEEKDAYS
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from web.views.calendar import count_waiting

STRETCH = re.compile(r"(\d{1,2})[:.](\d{2})\s*(?:-|–|to)\s*(\d{1,2})[:.](\d{2})")


class HoursForm(forms.Form):
    """One line for each weekday: `09:00-12:30, 14:00-18:00`; empty is closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for weekday, name in enumerate(WEEKDAYS):
            self.fields[f"day_{weekday}"] = forms.CharField(
                label=name, required=False, max_length=120, widget=forms.TextInput(attrs={"placeholder": "closed"})
            )

    @classmethod
    def of_now(cls) -> HoursForm:
        lines: dict[str, list[str]] = {}
        for each in OpeningHours.objects.all():
            lines.setdefault(f"day_{each.weekday}", []).append(f"{each.opens_at:%H:%M}-{each.closes_at:%H:%M}")
        return cls(initial={day: ", ".join(stretches) for day, stretches in lines.items()})

    def clean(self) -> dict[str, Any]:
        self.hours: dict[int, list[journeys.Stretch]] = {}
        for weekday in range(len(WEEKDAYS)):
            try:
                self.hours[weekday] = read_stretches(self.cleaned_data.get(f"day_{weekday}", ""))
            except ValueError as problem:
                self.add_error(f"day_{weekday}", str(problem))
        return self.cleaned_data


class ClosureForm(forms.Form):
    first = forms.DateField(label="First day", widget=forms.DateInput(attrs={"type": "date"}))
    last = forms.DateField(label="Last day", widget=forms.DateInput(attrs={"type": "date"}), required=False)
    reason = forms.CharField(max_length=120, required=False)


class ServiceForm(forms.Form):
    name = forms.CharField(max_length=80)
    duration_minutes = forms.IntegerField(
        label="Takes", initial=30, validators=[MinValueValidator(5), MaxValueValidator(24 * 60)]
    )
    price = forms.DecimalField(
        required=False, min_value=0, max_digits=8, decimal_places=2, help_text="Empty: callers are not told."
    )
    resource = forms.CharField(
        max_length=40,
        initial="main",
        label="Occupies",
        help_text="Services that occupy the same chair, room or person are never booked at the same time.",
    )
    is_active = forms.BooleanField(required=False, initial=True, label="Can be booked")

    @classmethod
    def of_service(cls, service: Service) -> ServiceForm:
        price = None if service.price_cents is None else Decimal(service.price_cents).scaleb(-2)
        return cls(
            initial={
                "name": service.name,
                "duration_minutes": service.duration_minutes,
                "price": price,
                "resource": service.resource,
                "is_active": service.is_active,
            }
        )

    @property
    def values(self) -> dict[str, Any]:
        values = dict(self.cleaned_data)
        price = values.pop("price")
        return {**values, "price_cents": None if price is None else int(price * 100)}


def read_stretches(line: str) -> list[journeys.Stretch]:
    """Read `09:00-12:30, 14:00-18:00`.

    Raises:
        ValueError: with a sentence for who typed it.
    """
    found = []
    for part in filter(None, (each.strip() for each in re.split(r"[,;]", line))):
        match = STRETCH.fullmatch(part)
        try:
            if match is None:
                raise ValueError
            opens_hour, opens_minute, closes_hour, closes_minute = map(int, match.groups())
            found.append((datetime.time(opens_hour, opens_minute), datetime.time(closes_hour, closes_minute)))
        except ValueError:
            raise ValueError(f"“{part}” is not understood: write it like 09:00-17:30.") from None
    return found


@tenant_access(Role.VIEWER)
@require_GET
def hours(request: TenantRequest) -> HttpResponse:
    return _hours_page(request)


def _hours_page(
    request: TenantRequest,
    *,
    hours_form: HoursForm | None = None,
    closure_form: ClosureForm | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "hours_form": hours_form or HoursForm.of_now(),
        "closure_form": closure_form or ClosureForm(),
        "closures": Closure.objects.filter(last_date__gte=timezone.localdate()),
        "services": Service.objects.all(),
        "waiting": count_waiting(),
    }
    return TemplateResponse(request, "web/calendar/hours.html", context, status=status)


@tenant_access(Role.DEVELOPER)
@require_POST
def hours_change(request: TenantRequest) -> HttpResponse:
    form = HoursForm(request.POST)
    if form.is_valid():
        try:
            journeys.set_opening_hours(hours=form.hours, actor=request.user)
        except journeys.NotPossible as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, "The opening hours are saved. Agents offer only times within them.")
            return redirect("web:hours", tenant_slug=request.tenant.slug)
    return _hours_page(request, hours_form=form, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def closure_new(request: TenantRequest) -> HttpResponse:
    form = ClosureForm(request.POST)
    if form.is_valid():
        first, last = form.cleaned_data["first"], form.cleaned_data["last"] or form.cleaned_data["first"]
        try:
            journeys.close_days(first=first, last=last, reason=form.cleaned_data["reason"], actor=request.user)
        except journeys.NotPossible as refusal:
            form.add_error("last", str(refusal))
        else:
            messages.success(request, "Closed on those days.")
            return redirect("web:hours", tenant_slug=request.tenant.slug)
    return _hours_page(request, closure_form=form, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def closure_remove(request: TenantRequest, closure_id: uuid.UUID) -> HttpResponse:
    journeys.reopen_days(closure=get_object_or_404(Closure, pk=closure_id), actor=request.user)
    messages.success(request, "Open again on those days.")
    return redirect("web:hours", tenant_slug=request.tenant.slug)


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def service_new(request: TenantRequest) -> HttpResponse:
    return _service_page(request, None, ServiceForm(request.POST) if request.method == "POST" else ServiceForm())


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def service(request: TenantRequest, service_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(Service, pk=service_id)
    form = ServiceForm(request.POST) if request.method == "POST" else ServiceForm.of_service(found)
    return _service_page(request, found, form)


def _service_page(request: TenantRequest, found: Service | None, form: ServiceForm) -> HttpResponse:
    if request.method == "POST" and form.is_valid():
        try:
            saved = journeys.save_service(service=found, actor=request.user, **form.values)
        except journeys.NotPossible as refusal:
            form.add_error("name", str(refusal))
        else:
            messages.success(request, f"{saved} is saved.")
            return redirect("web:hours", tenant_slug=request.tenant.slug)
    context = {"form": form, "service": found, "waiting": count_waiting()}
    return TemplateResponse(request, "web/calendar/service.html", context, status=422 if form.errors else 200)
