"""Forms of the pages."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.http import HttpRequest
from django.urls import reverse

from billing.accounts import open_account
from billing.affiliates import refer
from tenants.models import User
from tenants.scope import enter_tenant
from web.referrals import referral_code


class SignUpForm(forms.Form):
    """What django-allauth asks besides e-mail and password. Who comes by an invitation joins that tenant instead."""

    business_name = forms.CharField(
        max_length=120, error_messages={"required": "Please enter the name of your business."}
    )
    time_zone = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if reason := self._why_without_business():
            name = self.fields["business_name"]
            name.required = False
            name.help_text = reason

    def clean_time_zone(self) -> str:
        # Filled by the browser; a strange one is not the visitor's fault.
        value = self.cleaned_data["time_zone"]
        return value if value in available_timezones() else "UTC"

    def _why_without_business(self) -> str:
        """Return why somebody may sign up without a business; empty where they may not."""
        from allauth.core import context

        request = context.request
        if request and request.session.get("invitation"):
            return "Leave this empty to join only the business that invited you."
        if request and reverse("web:affiliate") in (request.GET.get("next"), request.POST.get("next")):
            return "Leave this empty to be an affiliate alone."
        return ""

    def signup(self, request: HttpRequest, user: User) -> None:
        if name := self.cleaned_data["business_name"].strip():
            tenant = open_account(name=name, owner=user, time_zone=self.cleaned_data["time_zone"])
            with enter_tenant(tenant.id):
                refer(code=referral_code(request), owner=user)
