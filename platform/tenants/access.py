"""Who may open a page. Every view says so with one of these decorators, or the site refuses to start (tenants.checks).

The decorators only declare; tenants.middleware checks, and enters the tenant or the operator's scope around the view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from tenants.models import ApiKey, Membership, Role, Tenant, User

View = TypeVar("View", bound=Callable[..., Any])


class SignedInRequest(HttpRequest):
    """What a view gets whose access is `signed_in` or `operator`."""

    user: User  # type: ignore[assignment]


class TenantRequest(SignedInRequest):
    """What a view gets whose access is `tenant_access`: the tenant is entered."""

    tenant: Tenant
    membership: Membership


class ApiRequest(HttpRequest):
    """What a view gets whose access is `api_access`: the key's tenant is entered."""

    tenant: Tenant
    api_key: ApiKey


@dataclasses.dataclass(frozen=True)
class Access:
    """`kind`: tenant, operator, signed_in, api, anonymous or internal. `reason`: why a view is open to all."""

    kind: str
    role: Role | None = None
    scope: ApiKey.Scope | None = None
    reason: str = ""


def _declare(access: Access) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        view.access = access  # type: ignore[attr-defined]
        return view

    return decorate


def tenant_access(role: Role) -> Callable[[View], View]:
    """Members of the tenant in the address, with this role or a higher one. Outsiders get 404, lower roles 403."""
    return _declare(Access("tenant", role=role))


def api_access(scope: ApiKey.Scope) -> Callable[[View], View]:
    """Programs with an API key of this scope, in `Authorization: Bearer …`; the key says which tenant is entered."""

    def decorate(view: View) -> View:
        return csrf_exempt(_declare(Access("api", scope=scope))(view))  # no cookie is looked at

    return decorate


def anonymous_allowed(reason: str) -> Callable[[View], View]:
    return _declare(Access("anonymous", reason=reason))


def internal_access(reason: str) -> Callable[[View], View]:
    """Programs with a token that the view itself checks."""
    return _declare(Access("internal", reason=reason))


operator_access = _declare(Access("operator"))
"""Operators of this installation; the view runs in the operator's scope. Everybody else gets 404."""

signed_in = _declare(Access("signed_in"))

THIRD_PARTY = {
    "admin": Access("operator"),
    "account": Access("anonymous", reason="django-allauth checks each of its pages itself"),
}
"""Access to other people's views, by the first part of their URL name (`admin:index`, `account_login`)."""


def refuse(status: int, error: str, sentence: str) -> JsonResponse:
    """Return what a program is told that gets nothing else: a word for it, and a sentence for who reads its log."""
    return JsonResponse({"error": error, "sentence": sentence}, status=status)


def access_to(view: Any, url_name: str) -> Access | None:
    """Return what a view declares, or what THIRD_PARTY says of it."""
    declared = getattr(view, "access", None)
    if declared is not None:
        return declared
    return THIRD_PARTY.get(url_name.split(":")[0].split("_")[0])
