"""The page Services: the tenant's keys for managed services, and its own accounts with providers of containers."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from content import service_keys as keys
from content.models import ServiceKey
from provisioning import accounts
from provisioning.backends import OWN_ACCOUNTS
from provisioning.models import Account, Deployment
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role


class ServiceKeyForm(forms.Form):
    provider = forms.ChoiceField(choices=ServiceKey.Provider.choices, label="Service")
    secret = forms.CharField(
        max_length=keys.MOST_CHARACTERS,
        label="Key",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="As the service shows it. It takes the place of one saved before.",
    )


class AccountForm(forms.Form):
    """Credentials of an account on one backend. What was typed is not shown again, not even when it is refused."""

    def __init__(self, backend: str, data: Any = None) -> None:
        super().__init__(data, auto_id=f"id_{backend}_%s")
        for name in OWN_ACCOUNTS[backend]:
            self.fields[name] = forms.CharField(
                max_length=accounts.MOST_CHARACTERS,
                label=name.replace("_", " ").capitalize(),
                widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
            )


@tenant_access(Role.ADMIN)
@sensitive_post_parameters("secret")
@require_http_methods(["GET", "POST"])
def service_keys(request: TenantRequest) -> HttpResponse:
    form = ServiceKeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            key, answer = keys.save_service_key(**form.cleaned_data, actor=request.user)
        except keys.BadServiceKey as problem:
            form.add_error("secret", str(problem))
        else:
            name = key.get_provider_display()
            if answer is keys.Answer.ACCEPTED:
                messages.success(request, f"The key is saved: {name} knows it.")
            else:
                messages.warning(request, f"The key is saved, but {name} could not be asked about it.")
            return redirect("web:service_keys", tenant_slug=request.tenant.slug)
    return _page(request, form, {})


@tenant_access(Role.ADMIN)
@require_POST
def remove_service_key(request: TenantRequest, key_id: str) -> HttpResponse:
    key = get_object_or_404(ServiceKey, pk=key_id)
    keys.remove_service_key(key=key, actor=request.user)
    messages.success(request, f"The key of {key.get_provider_display()} is removed: agents do without it.")
    return redirect("web:service_keys", tenant_slug=request.tenant.slug)


@tenant_access(Role.ADMIN)
@sensitive_post_parameters()
@require_POST
def own_account_change(request: TenantRequest, backend: str) -> HttpResponse:
    """Save credentials of an account on a backend: of the one in use, or of another."""
    if backend not in OWN_ACCOUNTS:
        raise Http404("No such backend.")
    form = AccountForm(backend, request.POST)
    if form.is_valid():
        try:
            account = accounts.save_account(backend=backend, credentials=form.cleaned_data, actor=request.user)
        except accounts.BadCredentials as problem:
            form.add_error(problem.field, str(problem))
        else:
            messages.success(request, f"Saved: {account}. Your pools stand there, or move there; calls go on.")
            return redirect("web:service_keys", tenant_slug=request.tenant.slug)
    return _page(request, ServiceKeyForm(), {backend: form})


@tenant_access(Role.ADMIN)
@require_POST
def own_account_remove(request: TenantRequest, account_id: uuid.UUID) -> HttpResponse:
    account = get_object_or_404(Account.objects.in_use(), pk=account_id)
    accounts.leave_account(account=account, actor=request.user)
    messages.success(request, f"{account} is being left: your pools move to the operator's, and calls go on.")
    return redirect("web:service_keys", tenant_slug=request.tenant.slug)


def _page(request: TenantRequest, form: ServiceKeyForm, account_forms: dict[str, AccountForm]) -> HttpResponse:
    kept = [
        (account, Deployment.objects.in_account(account.ref).live().count())
        for account in Account.objects.filter(forgotten_at=None)
    ]
    context = {
        "keys": ServiceKey.objects.all(),
        "form": form,
        "own_accounts": [
            {
                "backend": backend,
                "name": backend.title(),
                "accounts": [(account, standing) for account, standing in kept if account.backend == backend],
                "form": account_forms.get(backend) or AccountForm(backend),
            }
            for backend in OWN_ACCOUNTS
        ],
    }
    status = 422 if form.errors or account_forms else 200
    return render(request, "web/people/service_keys.html", context, status=status)
