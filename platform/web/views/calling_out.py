"""Calling out: the calls that a tenant's agents place, the rules that it keeps, and who is never called."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_POST

from agents.models import Agent
from agents.models.scheduling import WEEKDAYS
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from voice.telephony import outbound
from voice.telephony.models import DoNotCall, OutboundRules, TelephoneNumber
from web.views.telephone import NumberField


class PlaceForm(forms.Form):
    agent = forms.ModelChoiceField(Agent.objects.none(), empty_label="Choose an agent")
    to = NumberField(label="Whom to call")
    number = forms.ModelChoiceField(TelephoneNumber.objects.none(), empty_label=None, label="From")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agent"].queryset = Agent.objects.filter(archived_at=None)  # type: ignore[attr-defined]
        self.fields["number"].queryset = outbound.numbers_to_call_from()  # type: ignore[attr-defined]


class RulesForm(forms.Form):
    calls_from = forms.TimeField(label="From", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"))
    calls_until = forms.TimeField(label="Until", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"))
    weekdays = forms.TypedMultipleChoiceField(
        choices=list(enumerate(WEEKDAYS)), coerce=int, widget=forms.CheckboxSelectMultiple, label="On"
    )
    agrees = forms.BooleanField(
        label="We keep to these rules",
        help_text="We call only people who asked for it or agreed to it. We say who is calling, and that it is a "
        "machine. Whoever asks not to be called again is put on the list.",
    )

    @classmethod
    def of(cls, rules: OutboundRules | None) -> RulesForm:
        rules = rules or OutboundRules()
        days = rules.weekdays or list(range(5 if rules.agreed_by == "" else 7))
        return cls(
            initial={
                "calls_from": rules.calls_from,
                "calls_until": rules.calls_until,
                "weekdays": days,
                "agrees": bool(rules.agreed_by),
            }
        )

    def clean(self) -> dict[str, Any]:
        begin, end = self.cleaned_data.get("calls_from"), self.cleaned_data.get("calls_until")
        if begin and end and begin >= end:
            self.add_error("calls_until", "This is not after the beginning.")
        return self.cleaned_data


class DoNotCallForm(forms.Form):
    number = NumberField()
    reason = forms.CharField(max_length=200, required=False)


@tenant_access(Role.VIEWER)
@require_GET
def calling_out(request: TenantRequest) -> HttpResponse:
    return _outbound_page(request)


def _outbound_page(request: TenantRequest, *, status: int = 200, **forms_with_errors: forms.Form) -> HttpResponse:
    rules = OutboundRules.objects.first()
    context = {
        "rules": rules,
        "legs": outbound.placed_calls(),
        "refused_numbers": DoNotCall.objects.all()[:500],
        "place_form": PlaceForm(),
        "rules_form": RulesForm.of(rules),
        "refuse_form": DoNotCallForm(),
        **forms_with_errors,
    }
    return TemplateResponse(request, "web/telephone/outbound.html", context, status=status)


@tenant_access(Role.DEVELOPER)
@require_POST
def call_place(request: TenantRequest) -> HttpResponse:
    form = PlaceForm(request.POST)
    if form.is_valid():
        try:
            leg = outbound.place_call(placed_by=request.user, **form.cleaned_data)
        except outbound.CallNotPlaced as refusal:
            form.add_error("to", str(refusal))
        else:
            messages.success(request, f"{leg.other_number} is being called.")
            return _to_outbound(request)
    return _outbound_page(request, place_form=form, status=422)


@tenant_access(Role.ADMIN)
@require_POST
def outbound_agree(request: TenantRequest) -> HttpResponse:
    form = RulesForm(request.POST)
    if form.is_valid():
        values = {name: form.cleaned_data[name] for name in ("calls_from", "calls_until", "weekdays")}
        outbound.agree_to_rules(**values, actor=request.user)
        messages.success(request, "The rules are agreed to: agents may call within these hours.")
        return _to_outbound(request)
    return _outbound_page(request, rules_form=form, status=422)


@tenant_access(Role.ADMIN)
@require_POST
def outbound_withdraw(request: TenantRequest) -> HttpResponse:
    outbound.withdraw_from_rules(actor=request.user)
    messages.success(request, "No agent calls anybody from now on.")
    return _to_outbound(request)


@tenant_access(Role.DEVELOPER)
@require_POST
def do_not_call_add(request: TenantRequest) -> HttpResponse:
    form = DoNotCallForm(request.POST)
    if form.is_valid():
        entry = outbound.do_not_call(**form.cleaned_data, actor=request.user)
        messages.success(request, f"{entry} is never called.")
        return _to_outbound(request)
    return _outbound_page(request, refuse_form=form, status=422)


@tenant_access(Role.DEVELOPER)
@require_POST
def do_not_call_remove(request: TenantRequest, entry_id: uuid.UUID) -> HttpResponse:
    entry = get_object_or_404(DoNotCall, pk=entry_id)
    outbound.allow_again(entry=entry, actor=request.user)
    messages.success(request, f"{entry} may be called again.")
    return _to_outbound(request)


def _to_outbound(request: TenantRequest) -> HttpResponse:
    return redirect("web:calling_out", tenant_slug=request.tenant.slug)
