"""The page of what a tenant is called, and by which clock its days go."""

from __future__ import annotations

import itertools
from zoneinfo import available_timezones

from django import forms
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from tenants import people
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role, Tenant
from voice.days import change_time_zone

AREAS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")


class BusinessForm(forms.Form):
    name = forms.CharField(
        max_length=120, help_text="On these pages, in mails and invoices. Agents say what their own settings tell them."
    )
    time_zone = forms.ChoiceField(
        help_text="Days, opening hours, warm hours and the hours of telephone numbers follow it."
    )

    def __init__(self, tenant: Tenant, data: QueryDict | None = None) -> None:
        super().__init__(data, initial={"name": tenant.name, "time_zone": tenant.time_zone})
        self.fields["time_zone"].choices = zones_by_area(tenant.time_zone)  # type: ignore[attr-defined]


def zones_by_area(present: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the time zones of cities by part of the world, and what else makes sense: UTC, and the present one."""
    zones = sorted(zone for zone in available_timezones() if zone.partition("/")[0] in AREAS and "/" in zone)
    areas = [
        (area, [(zone, zone.partition("/")[2].replace("_", " ").replace("/", ", ")) for zone in of_area])
        for area, of_area in itertools.groupby(zones, lambda zone: zone.partition("/")[0])
    ]
    others = sorted({"UTC", present} - set(zones))
    return [*areas, ("Other", [(zone, zone) for zone in others])]


@tenant_access(Role.ADMIN)
@require_http_methods(["GET", "POST"])
def business(request: TenantRequest) -> HttpResponse:
    tenant = request.tenant
    form = BusinessForm(tenant, request.POST or None)
    if request.method == "POST" and form.is_valid():
        if "name" in form.changed_data:
            people.rename(tenant, form.cleaned_data["name"], actor=request.user)
        if "time_zone" in form.changed_data:
            change_time_zone(tenant, form.cleaned_data["time_zone"], actor=request.user)
        messages.success(request, "Saved.")
        return redirect("web:business", tenant_slug=tenant.slug)
    return render(request, "web/people/business.html", {"form": form}, status=422 if form.errors else 200)
