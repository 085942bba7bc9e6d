"""What an operator does to a tenant. Written to the tenant's own audit trail."""

from __future__ import annotations

from tenants import audit
from tenants.models import Tenant, User
from tenants.scope import enter_tenant


def suspend_tenant(*, tenant: Tenant, actor: User, reason: str = "") -> None:
    """Refuse a tenant's new calls from now on; nothing happens where it is suspended already."""
    if tenant.is_suspended:
        return
    with enter_tenant(tenant.pk):
        tenant.suspend(reason.strip()[:200] or "Suspended by the operator.")
        audit.record(
            action="tenant.suspended", target=tenant.name, actor=actor, details={"reason": tenant.status_reason}
        )


def restore_tenant(*, tenant: Tenant, actor: User) -> None:
    """Take a tenant's calls again; nothing happens where it is not suspended."""
    if not tenant.is_suspended:
        return
    with enter_tenant(tenant.pk):
        tenant.restore()
        audit.record(action="tenant.restored", target=tenant.name, actor=actor)
