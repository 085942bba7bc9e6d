"""What beat drives for billing."""

from __future__ import annotations

from celery import shared_task

from billing import sealing

SEAL_SECONDS = 600.0
BEAT_SCHEDULE = {
    "seal ledgers": {"task": "billing.seal_ledgers", "schedule": SEAL_SECONDS, "options": {"expires": SEAL_SECONDS}},
}


@shared_task(name="billing.seal_ledgers")
def seal_ledgers() -> int:
    return sealing.seal_ledgers()
