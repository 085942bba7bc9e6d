"""What beat drives for billing."""

from __future__ import annotations

from celery import shared_task

from billing import caps, sealing

SEAL_SECONDS = 600.0
CAPS_SECONDS = 120.0
BEAT_SCHEDULE = {
    "seal ledgers": {"task": "billing.seal_ledgers", "schedule": SEAL_SECONDS, "options": {"expires": SEAL_SECONDS}},
    "warn of caps": {"task": "billing.warn_of_caps", "schedule": CAPS_SECONDS, "options": {"expires": CAPS_SECONDS}},
}


@shared_task(name="billing.seal_ledgers")
def seal_ledgers() -> int:
    return sealing.seal_ledgers()


@shared_task(name="billing.warn_of_caps")
def warn_of_caps() -> int:
    """Mail the owners of tenants whose calls have passed a soft cap, and return of how many."""
    return sum(caps.warn_owners_of(tenant_id) for tenant_id in caps.tenants_to_warn())
