"""What every page's layout needs: the tenant, the user's role in it, and the tenants they may switch to."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from billing.entitlements import Entitlements, entitlements_of
from billing.models import Subscription
from tenants.lookups import memberships_of
from tenants.models import Membership, Role
from web.billing_banner import billing_banner


def _entitled() -> Entitlements | None:
    """Return what the entered tenant may do; None where it has no subscription."""
    try:
        return entitlements_of()
    except Subscription.DoesNotExist:
        return None


def navigation(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    signed_in_id = user.pk if user is not None and user.is_authenticated else None
    tenant, membership = getattr(request, "tenant", None), getattr(request, "membership", None)
    # Nothing can be changed in a suspended tenant (tenants.middleware).
    can_change = tenant is not None and not tenant.is_suspended

    def may(role: Role) -> bool:
        return can_change and isinstance(membership, Membership) and membership.may(role)

    return {
        "tenant": tenant,
        "membership": membership,
        "is_admin": isinstance(membership, Membership) and membership.may(Role.ADMIN),
        "is_owner": isinstance(membership, Membership) and membership.may(Role.OWNER),
        "entitled": SimpleLazyObject(_entitled),
        "may_develop": may(Role.DEVELOPER),
        "may_administer": may(Role.ADMIN),
        "belongings": SimpleLazyObject(lambda: memberships_of(signed_in_id) if signed_in_id else []),
        "billing_banner": SimpleLazyObject(lambda: billing_banner() if tenant is not None else None),
        "environment": settings.ENVIRONMENT,
        "gateway_url": settings.GATEWAY_URL,
    }
