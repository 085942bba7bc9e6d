"""Check each request's access, and run its view inside the tenant or the operator's scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from tenants.access import Access, ApiRequest, SignedInRequest, TenantRequest, access_to, refuse
from tenants.lookups import find_api_key, memberships_of
from tenants.models import ApiKey, Membership, Tenant
from tenants.scope import enter_operator, enter_tenant

# Alpine, which the operator's admin is built on, evaluates expressions in attributes and styles elements inline.
ADMIN_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class ScopeMiddleware:
    """Calls the view itself: an error in it rolls its transaction back, and its response is rendered in the scope."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path_info.startswith("/admin/"):
            response.headers.setdefault("Content-Security-Policy", ADMIN_POLICY)
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        match = request.resolver_match
        url_name = (match.view_name or "") if match else ""
        access = access_to(view, url_name)
        if access is None:
            # Static files of the development server are the only views without a name.
            if not url_name and getattr(view, "__module__", "").startswith("django."):
                return None
            raise ImproperlyConfigured(f"The view {url_name or view} does not declare its access.")
        if access.kind in ("anonymous", "internal"):
            return None
        if access.kind == "api":
            return self._as_program(cast(ApiRequest, request), access, view, args, kwargs)
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if access.kind == "signed_in":
            return None
        if access.kind == "operator":
            return self._as_operator(cast(SignedInRequest, request), view, args, kwargs)
        return self._as_member(cast(TenantRequest, request), access, view, args, kwargs)

    def _as_program(
        self,
        request: ApiRequest,
        access: Access,
        view: Callable[..., HttpResponse],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HttpResponse:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        found = find_api_key(secret.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            refusal = refuse(401, "api_key", "Send an API key that is not revoked, as Authorization: Bearer wl_….")
            refusal["WWW-Authenticate"] = "Bearer"
            return refusal
        tenant_id, key_id, scopes = found
        if access.scope not in scopes:
            return refuse(403, "scope", f"This key lacks the scope {access.scope}.")
        with enter_tenant(tenant_id):
            request.tenant = Tenant.objects.get(pk=tenant_id)
            request.api_key = ApiKey.objects.get(pk=key_id)
            request.api_key.note_use()
            if request.tenant.is_suspended and request.method not in SAFE_METHODS:
                return refuse(403, "suspended", "This account is suspended.")
            try:
                return _rendered(view(request, *args, **kwargs))
            except Http404:
                return refuse(404, "not_found", "There is nothing at this address.")

    def _as_operator(
        self, request: SignedInRequest, view: Callable[..., HttpResponse], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse:
        if not request.user.is_operator:
            raise Http404("No such page.")
        with enter_operator(request.user, reason=f"{request.method} {request.path}"):
            return _rendered(view(request, *args, **kwargs))

    def _as_member(
        self,
        request: TenantRequest,
        access: Access,
        view: Callable[..., HttpResponse],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HttpResponse:
        slug = kwargs.pop("tenant_slug")
        belonging = next((each for each in memberships_of(request.user.pk) if each.slug == slug), None)
        if belonging is None:
            raise Http404("No such page.")
        with enter_tenant(belonging.tenant_id):
            request.tenant = Tenant.objects.get(pk=belonging.tenant_id)
            request.membership = Membership.objects.get(user=request.user)
            if access.role is not None and not request.membership.may(access.role):
                raise PermissionDenied(f"This needs the role {access.role.label}; yours is {belonging.role.label}.")
            if request.tenant.is_suspended and request.method not in SAFE_METHODS:
                raise PermissionDenied("This account is suspended: until it is restored, nothing can be changed.")
            with timezone.override(request.tenant.time_zone):
                return _rendered(view(request, *args, **kwargs))


def _rendered(response: HttpResponse) -> HttpResponse:
    """Render a lazy template response now, while its queries are still allowed."""
    if hasattr(response, "render") and not getattr(response, "is_rendered", True):
        return response.render()
    return response
