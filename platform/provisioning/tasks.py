"""What Celery does for pools. Tasks take ids and call once; how it is done is in `applying` and `settling`."""

from __future__ import annotations

import uuid

import structlog
from celery import shared_task

from provisioning import applying, reconciling, settling

log = structlog.get_logger(__name__)

RECONCILE_SECONDS = 3.0
SETTLE_SECONDS = 60.0
BEAT_SCHEDULE = {
    # A run that could not start in time is of no use any more: the next one does its work.
    "reconcile pools": {
        "task": "provisioning.reconcile",
        "schedule": RECONCILE_SECONDS,
        "options": {"expires": 4 * RECONCILE_SECONDS},
    },
    "settle containers": {
        "task": "provisioning.settle_containers",
        "schedule": SETTLE_SECONDS,
        "options": {"expires": SETTLE_SECONDS},
    },
}


@shared_task(name="provisioning.apply_pool")
def apply_pool(*, tenant_id: str, pool_id: str) -> None:
    """Deploy, prime, scale, drain and stop, until the pool is as it is wanted."""
    applying.apply_pool(uuid.UUID(tenant_id), uuid.UUID(pool_id))


@shared_task(name="provisioning.reconcile")
def reconcile() -> None:
    """Compare what is with what is wanted, everywhere, and mend the difference."""
    for tenant_id, pool_id in reconciling.reconcile():
        # Deploying takes its time: other pools are not to wait for it.
        apply_pool.apply_async(
            kwargs={"tenant_id": str(tenant_id), "pool_id": str(pool_id)}, expires=4 * RECONCILE_SECONDS
        )


@shared_task(name="provisioning.settle_containers")
def settle_containers() -> int:
    return settling.settle_containers()
