"""What tests ask of a pool, and do to it, as tasks and gateways would."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.utils import timezone

from provisioning.applying import apply_pool
from provisioning.backends import make_backend
from provisioning.backends.contract import GrantedSession
from provisioning.models import Container, Deployment, Pool
from tenants.models import AuditEntry, Tenant
from tenants.scope import enter_tenant


def apply(pool: Pool) -> None:
    assert apply_pool(pool.tenant_id, pool.pk)


def change(pool: Pool, **fields: Any) -> None:
    with enter_tenant(pool.tenant_id):
        Pool.objects.filter(pk=pool.pk).update(**fields, changed_at=timezone.now())


def deployments(pool: Pool) -> list[Deployment]:
    """Return a pool's deployments, oldest first."""
    with enter_tenant(pool.tenant_id):
        return list(Deployment.objects.filter(pool=pool).select_related("pool").order_by("created_at"))


def containers(pool: Pool) -> list[Container]:
    with enter_tenant(pool.tenant_id):
        return list(Container.objects.filter(deployment__pool=pool).order_by("started_at"))


def actions(tenant: Tenant) -> list[str]:
    with enter_tenant(tenant.pk):
        entries = AuditEntry.objects.filter(action__startswith="deployment.").order_by("occurred_at")
        return list(entries.values_list("action", flat=True))


@async_to_sync
async def start_session(deployment: Deployment) -> GrantedSession:
    async with make_backend("local") as backend:
        return await backend.start_session(deployment.ref, timeout_ms=15_000, idle_timeout_seconds=60)


@async_to_sync
async def end_session(deployment: Deployment, granted: GrantedSession) -> None:
    async with make_backend("local") as backend:
        await backend.end_session(deployment.ref, granted.ref)


@async_to_sync
async def standing() -> list[str]:
    async with make_backend("local") as backend:
        return [ref.name for ref in await backend.deployments()]
