"""The page of a tenant's limits: what this period has come to, and where it is to warn and to stop."""

from __future__ import annotations

from decimal import Decimal

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from billing.caps import Caps, caps_of, set_caps
from billing.entitlements import entitlements_of
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role

MOST = 1_000_000


def _minutes(label: str, help_text: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, required=False, min_value=0, max_value=MOST, help_text=help_text, widget=_number("numeric")
    )


def _dollars(label: str, help_text: str) -> forms.DecimalField:
    return forms.DecimalField(
        label=label,
        required=False,
        min_value=0,
        max_value=MOST,
        decimal_places=2,
        help_text=help_text,
        widget=_number("decimal"),
    )


def _number(mode: str) -> forms.TextInput:
    return forms.TextInput(attrs={"inputmode": mode, "autocomplete": "off"})


class LimitsForm(forms.Form):
    soft_minutes = _minutes("Warn after, minutes", "Of conversation in a billing period.")
    hard_minutes = _minutes("Stop after, minutes", "Calls that are going on then are wrapped up in words.")
    soft_spend = _dollars("Warn after, US dollars", "For minutes beyond those that the plan includes.")
    hard_spend = _dollars("Stop after, US dollars", "0 stops calls when the included minutes are used up.")

    @staticmethod
    def values_of(caps: Caps | None) -> dict[str, object]:
        if caps is None:
            return {}
        return {
            "soft_minutes": caps.soft_minutes,
            "hard_minutes": caps.hard_minutes,
            "soft_spend": _as_dollars(caps.soft_spend_cents),
            "hard_spend": _as_dollars(caps.hard_spend_cents),
        }

    def limits(self) -> dict[str, int | None]:
        data = self.cleaned_data
        return {
            "soft_minutes": data["soft_minutes"],
            "hard_minutes": data["hard_minutes"],
            "soft_spend_cents": _as_cents(data["soft_spend"]),
            "hard_spend_cents": _as_cents(data["hard_spend"]),
        }


@tenant_access(Role.OWNER)
@require_http_methods(["GET", "POST"])
def limits(request: TenantRequest) -> HttpResponse:
    form = LimitsForm(request.POST or None, initial=LimitsForm.values_of(caps_of()))
    if request.method == "POST" and form.is_valid():
        try:
            set_caps(actor=request.user, **form.limits())
        except ValidationError as problem:
            for name, sentences in problem.message_dict.items():
                form.add_error(name.removesuffix("_cents"), sentences)
        else:
            messages.success(request, "The limits are set. Calls that are going on follow them within a minute.")
            return redirect("web:limits", tenant_slug=request.tenant.slug)
    context = {"form": form, "entitled": entitlements_of()}
    return render(request, "web/people/limits.html", context, status=422 if form.errors else 200)


def _as_dollars(cents: int | None) -> Decimal | None:
    return None if cents is None else Decimal(cents) / 100


def _as_cents(dollars: Decimal | None) -> int | None:
    return None if dollars is None else int(dollars * 100)
