"""The page of managed services: the tenant's keys for them."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from content import service_keys as keys
from content.models import ServiceKey
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
    context = {"keys": ServiceKey.objects.all(), "form": form}
    return render(request, "web/people/service_keys.html", context, status=422 if form.errors else 200)


@tenant_access(Role.ADMIN)
@require_POST
def remove_service_key(request: TenantRequest, key_id: str) -> HttpResponse:
    key = get_object_or_404(ServiceKey, pk=key_id)
    keys.remove_service_key(key=key, actor=request.user)
    messages.success(request, f"The key of {key.get_provider_display()} is removed: agents do without it.")
    return redirect("web:service_keys", tenant_slug=request.tenant.slug)
