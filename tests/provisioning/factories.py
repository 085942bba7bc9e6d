"""Functions that build valid pools and what belongs to them, in a tenant that they enter."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from provisioning.backends.contract import PrimingReport
from provisioning.models import Container, CostEntry, Deployment, Pool
from tenants.models import Tenant
from tenants.scope import enter_tenant

STARTED_AT = datetime.datetime(2026, 11, 2, 9, 0, tzinfo=datetime.UTC)


def build_pool(tenant: Tenant, **fields: Any) -> Pool:
    """Save a pool as it is, with no task queued."""
    with enter_tenant(tenant.pk):
        return Pool.objects.create(
            **{
                "sessions_per_container": 2,
                "snapshots": False,
                "startup_timeout_seconds": 20,
                "exit_grace_seconds": 2,
                **fields,
            }
        )


def build_deployment(pool: Pool, *, ready: bool = True) -> Deployment:
    with enter_tenant(pool.tenant_id):
        deployment = Deployment.of_pool(Pool.objects.get(pk=pool.pk))
        if ready:
            deployment.start_deploying()
            deployment.start_priming()
            deployment.become_ready(PrimingReport())
        return deployment


def build_container(
    deployment: Deployment,
    *,
    ready_seconds: float | None = 2.0,
    life_seconds: float | None = 60.0,
    name: str = "cascade-1",
) -> Container:
    """Save a container; `life_seconds` None: it runs still."""
    with enter_tenant(deployment.tenant_id):
        return Container.objects.create(
            deployment=deployment,
            name=name,
            state="ready" if life_seconds is None else "stopped",
            started_at=STARTED_AT,
            ready_at=_after(STARTED_AT, ready_seconds),
            stopped_at=_after(STARTED_AT, life_seconds),
        )


def build_active_cost(
    container: Container, *, tenant: Tenant, from_seconds: float, to_seconds: float, nano_dollars: int = 0
) -> CostEntry:
    """Save what the gateway records when a session has ended."""
    deployment, session_id = container.deployment, uuid.uuid4()
    with enter_tenant(tenant.pk):
        return CostEntry.objects.create(
            pool_id=deployment.pool_id,
            deployment_id=deployment.pk,
            container=container.name,
            call_id=uuid.uuid4(),
            session_id=session_id,
            part="active",
            milliseconds=round((to_seconds - from_seconds) * 1000),
            nano_dollars=nano_dollars,
            occurred_at=_after(container.started_at, to_seconds),
            idempotency_key=f"session:{session_id}:active",
        )


def _after(at: datetime.datetime, seconds: float | None) -> Any:
    return None if seconds is None else at + datetime.timedelta(seconds=seconds)
