"""Telephone: a tenant's numbers and who answers them, and its accounts with carriers."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agents.models import Agent
from agents.models.scheduling import WEEKDAYS
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from voice.telephony import numbers as journeys
from voice.telephony import outbound
from voice.telephony.carriers import CARRIERS, account_of
from voice.telephony.carriers.contract import CarrierRefused, webhook
from voice.telephony.models import Carrier, CarrierAccount, TelephoneNumber
from web.views.opening_hours import read_stretches

SETTINGS = ("label", "outside", "outside_agent", "outside_message", "forwards_to")


class NumberField(forms.CharField):
    """A telephone number, however it is typed; its value is E.164."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"placeholder": "+14155550123", "inputmode": "tel", "autocomplete": "off"})
        super().__init__(max_length=24, widget=widget, **options)

    def clean(self, value: Any) -> str:
        typed = super().clean(value)
        if not typed:
            return ""
        try:
            return outbound.read_number(typed)
        except ValueError as problem:
            raise forms.ValidationError(str(problem)) from None


class TargetField(forms.CharField):
    """Whom callers are put through to: a telephone number, or a SIP address."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"placeholder": "+14155550199", "autocomplete": "off"})
        super().__init__(max_length=journeys.LONGEST_TARGET, widget=widget, **options)

    def clean(self, value: Any) -> str:
        try:
            return journeys.read_target(super().clean(value))
        except journeys.BadTarget as problem:
            raise forms.ValidationError(str(problem)) from None


class NumberForm(forms.Form):
    """A number, who answers, and a line for each weekday as in the calendar's hours."""

    number = NumberField(label="Number")
    carrier = forms.ChoiceField(choices=Carrier.choices, initial=Carrier.TWILIO)
    label = forms.CharField(max_length=80, required=False, label="What it is for", help_text="Only you see it.")
    agent = forms.ModelChoiceField(Agent.objects.none(), empty_label="Choose an agent", label="Agent who answers")
    forwards_to = TargetField(
        required=False,
        label="Person who takes over",
        help_text="Where callers are put through whom the agent hands to a person: a telephone number, or an address "
        "like sip:name@example.com. Empty: somebody calls them back.",
    )
    outside = forms.ChoiceField(
        choices=[(value, label.capitalize()) for value, label in TelephoneNumber.Outside.choices],
        initial=TelephoneNumber.Outside.MESSAGE,
        label="Callers get",
    )
    outside_agent = forms.ModelChoiceField(
        Agent.objects.none(), required=False, empty_label="None", label="The other agent"
    )
    outside_message = forms.CharField(
        required=False,
        max_length=500,
        label="The message",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Spoken before hanging up. Empty: that you are closed.",
    )

    def __init__(self, *args: Any, is_new: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        agents = Agent.objects.filter(archived_at=None)
        for name in ("agent", "outside_agent"):
            self.fields[name].queryset = agents  # type: ignore[attr-defined]
        if not is_new:
            del self.fields["number"], self.fields["carrier"]
        for weekday, day in enumerate(WEEKDAYS):
            self.fields[f"day_{weekday}"] = forms.CharField(
                label=day, required=False, max_length=120, widget=forms.TextInput(attrs={"placeholder": "–"})
            )

    @classmethod
    def of_number(cls, number: TelephoneNumber) -> NumberForm:
        days = {
            f"day_{weekday}": ", ".join(f"{opens:%H:%M}-{closes:%H:%M}" for opens, closes in stretches)
            for weekday, stretches in journeys.hours_of(number).items()
        }
        values = {name: getattr(number, name) for name in SETTINGS}
        return cls(is_new=False, initial={**values, "agent": number.agent, **days})

    def clean(self) -> dict[str, Any]:
        self.hours: dict[int, list[journeys.Stretch]] = {}
        for weekday in range(len(WEEKDAYS)):
            try:
                self.hours[weekday] = read_stretches(self.cleaned_data.get(f"day_{weekday}", ""))
                if any(opens >= closes for opens, closes in self.hours[weekday]):
                    raise ValueError("A stretch ends before it begins.")
            except ValueError as problem:
                self.add_error(f"day_{weekday}", str(problem))
        wants_agent = self.cleaned_data.get("outside") == TelephoneNumber.Outside.AGENT
        if wants_agent and not self.cleaned_data.get("outside_agent"):
            self.add_error("outside_agent", "Choose the agent who answers outside the hours.")
        return self.cleaned_data

    @property
    def settings(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in SETTINGS}

    @property
    def days(self) -> list[forms.BoundField]:
        return [self[f"day_{weekday}"] for weekday in range(len(WEEKDAYS))]


class AccountForm(forms.Form):
    """What a carrier's console shows of an account."""

    def __init__(self, data: Any = None, *, carrier: str, account: CarrierAccount | None = None) -> None:
        super().__init__(data)
        for each in CARRIERS[carrier].credentials:
            widget = forms.PasswordInput if each.is_secret else forms.TextInput
            self.fields[each.field] = forms.CharField(
                max_length=128,
                label=each.label,
                widget=widget(attrs={"autocomplete": "off", "spellcheck": "false"}),
                initial=getattr(account, each.field, "") if not each.is_secret else "",
            )


@tenant_access(Role.VIEWER)
@require_GET
def telephone(request: TenantRequest) -> HttpResponse:
    accounts = {each.carrier: each for each in CarrierAccount.objects.all()}
    context = {
        "numbers": TelephoneNumber.objects.select_related("agent", "outside_agent").prefetch_related("hours"),
        "counted": TelephoneNumber.objects.counted().count(),
        "answered": [*accounts, Carrier.SIP],
        "accounts": accounts,
        "carriers": [(name, Carrier(name).label, accounts.get(name)) for name in CARRIERS],
    }
    return TemplateResponse(request, "web/telephone/telephone.html", context)


@tenant_access(Role.ADMIN)
@sensitive_post_parameters("token", "signing_key")
@require_http_methods(["GET", "POST"])
def carrier_account(request: TenantRequest, carrier: str) -> HttpResponse:
    if carrier not in CARRIERS:
        raise Http404
    name = Carrier(carrier).label
    account = account_of(carrier)
    form = AccountForm(request.POST if request.method == "POST" else None, carrier=carrier, account=account)
    if request.method == "POST" and form.is_valid():
        try:
            _, is_known = journeys.save_account(carrier=carrier, actor=request.user, **form.cleaned_data)
        except journeys.BadAccount as problem:
            form.add_error(problem.field, str(problem))
        else:
            if is_known:
                messages.success(request, f"The account is saved: {name} knows it.")
            else:
                messages.warning(request, f"The account is saved, but {name} could not be asked about it.")
            return redirect("web:telephone", tenant_slug=request.tenant.slug)
    context = {
        "carrier": carrier,
        "name": name,
        "where": CARRIERS[carrier].where,
        "account": account,
        "form": form,
    }
    return TemplateResponse(request, "web/telephone/account.html", context, status=422 if form.errors else 200)


@tenant_access(Role.ADMIN)
@require_POST
def carrier_account_remove(request: TenantRequest, carrier: str) -> HttpResponse:
    account = get_object_or_404(CarrierAccount, carrier=carrier)
    journeys.remove_account(account=account, actor=request.user)
    messages.success(request, f"The {account.get_carrier_display()} account is removed: its numbers answer no more.")
    return redirect("web:telephone", tenant_slug=request.tenant.slug)


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def number_new(request: TenantRequest) -> HttpResponse:
    account = CarrierAccount.objects.first()
    initial = {"number": request.GET.get("number", ""), "carrier": account.carrier if account else Carrier.TWILIO}
    form = NumberForm(request.POST or None, is_new=True, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            added = journeys.add_number(
                number=form.cleaned_data["number"],
                carrier=form.cleaned_data["carrier"],
                agent=form.cleaned_data["agent"],
                settings=form.settings,
                hours=form.hours,
                actor=request.user,
            )
        except journeys.NoRoomForNumber as problem:
            form.add_error(None, str(problem))
        except (journeys.NumberTaken, journeys.NotYourNumber, CarrierRefused) as problem:
            form.add_error("number", str(problem))
        else:
            if added.is_confirmed:
                messages.success(request, f"{added} is in service: call it.")
            else:
                messages.warning(request, f"{added} waits for the operator, and takes no calls until it is confirmed.")
            return redirect("web:telephone", tenant_slug=request.tenant.slug)
    return _number_page(request, None, form)


@tenant_access(Role.DEVELOPER)
@require_http_methods(["GET", "POST"])
def number(request: TenantRequest, number_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(TelephoneNumber, pk=number_id)
    form = NumberForm(request.POST, is_new=False) if request.method == "POST" else NumberForm.of_number(found)
    if request.method == "POST" and form.is_valid():
        journeys.change_number(
            number=found,
            agent=form.cleaned_data["agent"],
            settings=form.settings,
            hours=form.hours,
            actor=request.user,
        )
        messages.success(request, f"{found} is saved: it holds from the next call on.")
        return redirect("web:telephone", tenant_slug=request.tenant.slug)
    return _number_page(request, found, form)


def _number_page(request: TenantRequest, found: TelephoneNumber | None, form: NumberForm) -> HttpResponse:
    context = {
        "number": found,
        "form": form,
        "has_account": CarrierAccount.objects.exists(),
        "sip_waits": settings.SIP_NUMBERS_NEED_CONFIRMATION,
        "webhook": webhook(found.carrier, "voice") if found is not None and found.carrier in CARRIERS else "",
    }
    return TemplateResponse(request, "web/telephone/number.html", context, status=422 if form.errors else 200)


@tenant_access(Role.DEVELOPER)
@require_POST
def number_remove(request: TenantRequest, number_id: uuid.UUID) -> HttpResponse:
    found = get_object_or_404(TelephoneNumber, pk=number_id)
    journeys.remove_number(number=found, actor=request.user)
    messages.success(request, f"{found} is no longer in service here.")
    return redirect("web:telephone", tenant_slug=request.tenant.slug)
