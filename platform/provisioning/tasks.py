"""What Celery does for pools. Tasks take ids and call once; how it is done is in the modules that they name."""

from __future__ import annotations

import uuid

import structlog
from celery import shared_task

from provisioning import applying, correcting, forgetting, importing, pricing, reconciling, settling
from tenants.tasks import every

log = structlog.get_logger(__name__)

RECONCILE_SECONDS = 3.0
BEAT_SCHEDULE = {
    "reconcile pools": every(RECONCILE_SECONDS, "provisioning.reconcile", kept_seconds=4 * RECONCILE_SECONDS),
    "settle containers": every(60.0, "provisioning.settle_containers"),
    "import bills": every(1800.0, "provisioning.import_bills"),
    "read prices": every(3600.0, "provisioning.read_prices"),
}


@shared_task(name="provisioning.apply_pool")
def apply_pool(*, tenant_id: str, pool_id: str) -> None:
    """Deploy, prime, scale, drain and stop, until the pool is as it is wanted."""
    applying.apply_pool(uuid.UUID(tenant_id), uuid.UUID(pool_id))


@shared_task(name="provisioning.reconcile")
def reconcile() -> None:
    """Compare what is with what is wanted, everywhere, and mend the difference."""
    for tenant_id, pool_id in reconciling.reconcile(spares_backends=True):
        # Deploying takes its time: other pools are not to wait for it.
        apply_pool.apply_async(
            kwargs={"tenant_id": str(tenant_id), "pool_id": str(pool_id)}, expires=4 * RECONCILE_SECONDS
        )


@shared_task(name="provisioning.settle_containers")
def settle_containers() -> int:
    return settling.settle_containers()


@shared_task(name="provisioning.import_bills")
def import_bills() -> None:
    """Read what providers billed, bring the ledger to it, and let go of accounts whose last hour is on the bill."""
    importing.import_bills()
    correcting.correct_hours()
    forgetting.forget_left_accounts()


@shared_task(name="provisioning.read_prices")
def read_prices() -> int:
    """Read providers' prices, once a day."""
    return pricing.read_prices()
