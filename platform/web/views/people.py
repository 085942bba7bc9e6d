"""Pages about people: the tenants one belongs to, members, invitations, API keys and the audit trail."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from tenants import people
from tenants.access import SignedInRequest, TenantRequest, anonymous_allowed, signed_in, tenant_access
from tenants.lookups import find_invitation, memberships_of
from tenants.models import ApiKey, AuditEntry, Invitation, Membership, Role


class InvitationForm(forms.Form):
    email = forms.EmailField(label="E-mail address")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)


class ApiKeyForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What will use this key.")
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices, widget=forms.CheckboxSelectMultiple, label="It may"
    )


@signed_in
@require_GET
def dashboard(request: SignedInRequest) -> HttpResponse:
    """Send somebody who signed in to their tenant, or let them choose."""
    belongings = memberships_of(request.user.pk)
    last = request.session.get("last_tenant")
    chosen = next((each for each in belongings if each.slug == last), belongings[0] if belongings else None)
    if chosen:
        return redirect("web:overview", tenant_slug=chosen.slug)
    if request.user.is_operator:
        return redirect("web:fleet")
    return render(request, "web/public/no_tenant.html")


@tenant_access(Role.VIEWER)
@require_GET
def members(request: TenantRequest) -> HttpResponse:
    return _members_page(request, InvitationForm())


def _members_page(request: TenantRequest, form: InvitationForm, status: int = 200) -> HttpResponse:
    context = {
        "memberships": Membership.objects.select_related("user"),
        "invitations": Invitation.objects.filter(accepted_at=None),
        "form": form,
        "roles": Role.choices,
        "may_manage": request.membership.may(Role.ADMIN),
    }
    return render(request, "web/people/members.html", context, status=status)


@tenant_access(Role.ADMIN)
@require_POST
def invite_member(request: TenantRequest) -> HttpResponse:
    form = InvitationForm(request.POST)
    if form.is_valid():
        try:
            people.invite(
                tenant=request.tenant,
                email=form.cleaned_data["email"],
                role=Role(form.cleaned_data["role"]),
                invited_by=request.user,
            )
        except people.NotPossible as refusal:
            form.add_error("email", str(refusal))
        else:
            messages.success(request, f"An invitation is on its way to {form.cleaned_data['email']}.")
            return redirect("web:members", tenant_slug=request.tenant.slug)
    return _members_page(request, form, status=422)


@tenant_access(Role.ADMIN)
@require_POST
def withdraw_invitation(request: TenantRequest, invitation_id: str) -> HttpResponse:
    get_object_or_404(Invitation, pk=invitation_id, accepted_at=None).delete()
    messages.success(request, "The invitation was withdrawn.")
    return redirect("web:members", tenant_slug=request.tenant.slug)


@tenant_access(Role.ADMIN)
@require_POST
def change_member(request: TenantRequest, membership_id: str) -> HttpResponse:
    membership = get_object_or_404(Membership.objects.select_related("user"), pk=membership_id)
    try:
        if request.POST.get("action") == "remove":
            people.remove_member(membership=membership, actor=request.user)
            messages.success(request, f"{membership.user.email} is no longer a member.")
        else:
            role = request.POST.get("role", "")
            if role not in Role.values:
                raise people.NotPossible("Choose a role.")
            people.change_role(membership=membership, role=Role(role), actor=request.user)
            messages.success(request, f"{membership.user.email} is now {Role(role).label.lower()}.")
    except people.NotPossible as refusal:
        messages.error(request, str(refusal))
    return redirect("web:members", tenant_slug=request.tenant.slug)


@anonymous_allowed("the link of an invitation; its secret is checked before anything is shown")
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    found = find_invitation(token)
    if found is None:
        return render(request, "web/public/invitation.html", {"refusal": "This invitation is not known."}, status=404)
    context = {"tenant_name": found[2], "token": token}
    request.session["invitation"] = token
    if request.method == "POST" and request.user.is_authenticated:
        try:
            tenant = people.accept_invitation(token=token, user=request.user)
        except people.NotPossible as refusal:
            return render(request, "web/public/invitation.html", {**context, "refusal": str(refusal)}, status=422)
        request.session.pop("invitation", None)
        messages.success(request, f"Welcome to {tenant.name}.")
        return redirect("web:overview", tenant_slug=tenant.slug)
    return render(request, "web/public/invitation.html", context)


@tenant_access(Role.ADMIN)
@require_http_methods(["GET", "POST"])
def api_keys(request: TenantRequest) -> HttpResponse:
    form, secret = ApiKeyForm(request.POST or None), None
    if request.method == "POST" and form.is_valid():
        _, secret = people.create_api_key(
            name=form.cleaned_data["name"], scopes=form.cleaned_data["scopes"], actor=request.user
        )
        form = ApiKeyForm()
    context = {"keys": ApiKey.objects.select_related("created_by"), "form": form, "secret": secret}
    return render(request, "web/people/api_keys.html", context, status=422 if form.errors else 200)


@tenant_access(Role.ADMIN)
@require_POST
def revoke_api_key(request: TenantRequest, key_id: str) -> HttpResponse:
    key = get_object_or_404(ApiKey, pk=key_id)
    people.revoke_api_key(key=key, actor=request.user)
    messages.success(request, f"{key.name} was revoked: it is refused from now on.")
    return redirect("web:api_keys", tenant_slug=request.tenant.slug)


@tenant_access(Role.ADMIN)
@require_GET
def audit_trail(request: TenantRequest) -> HttpResponse:
    entries = AuditEntry.objects.all()
    if action := request.GET.get("action"):
        entries = entries.filter(action__startswith=action)
    page = Paginator(entries, 50).get_page(request.GET.get("page"))
    actions = AuditEntry.objects.order_by("action").values_list("action", flat=True).distinct()
    return render(request, "web/people/audit.html", {"page": page, "actions": actions, "chosen": action or ""})
