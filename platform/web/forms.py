"""Forms of the pages."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.http import HttpRequest

from billing.accounts import open_account
from tenants.models import User


class SignUpForm(forms.Form):
    """What django-allauth asks besides e-mail and password. Who comes by an invitation joins that tenant instead."""

    business_name = forms.CharField(
        max_length=120, error_messages={"required": "Please enter the name of your business."}
    )
    time_zone = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._comes_by_invitation():
            name = self.fields["business_name"]
            name.required = False
            name.help_text = "Leave this empty to join only the business that invited you."

    def clean_time_zone(self) -> str:
        # Filled by the browser; a strange one is not the visitor's fault.
        value = self.cleaned_data["time_zone"]
        return value if value in available_timezones() else "UTC"

    def _comes_by_invitation(self) -> bool:
        from allauth.core import context

        return bool(context.request and context.request.session.get("invitation"))

    def signup(self, request: HttpRequest, user: User) -> None:
        if name := self.cleaned_data["business_name"].strip():
            open_account(name=name, owner=user, time_zone=self.cleaned_data["time_zone"])
