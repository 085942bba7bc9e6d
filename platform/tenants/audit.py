"""The audit trail: what people (and the platform for them) did in a tenant."""

from __future__ import annotations

from typing import Any

from tenants.models import AuditEntry, User
from tenants.ownership import entered_tenant_id

PLATFORM = "Warmline"


def record(
    *, action: str, target: object = "", actor: User | None = None, details: dict[str, Any] | None = None
) -> None:
    """Add an entry in the entered tenant. `actor` None: the platform did it by itself.

    Never put a secret or anything said in a call into `details`.
    """
    AuditEntry.objects.create(
        tenant_id=entered_tenant_id(),
        actor=actor,
        actor_name=actor.email if actor else PLATFORM,
        action=action,
        target=str(target)[:200],
        details=details or {},
    )
