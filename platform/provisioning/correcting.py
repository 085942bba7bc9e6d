"""Bringing the ledger to the bill: when all of an hour is in it, what was billed differently comes as further entries.

An hour is whole when each container that ran in it is settled beyond its end, and no call can still be charged for it.
Afterwards the entries of a deployment in that hour add up to what was billed, to the nano-dollar. A bill that the
provider corrects later, or an entry that came late, has the hour compared again. Calls may be of any tenant: this runs
as the operator.
"""

from __future__ import annotations

import datetime
import uuid
from typing import NamedTuple

from django.db import connections
from django.utils import timezone

from provisioning.costs import billed_corrections
from provisioning.models import BilledHour, CostEntry, Deployment
from provisioning.settling import ALL_ENTERED, HOUR, MOMENT
from tenants.scope import atomic, enter_operator

COMPARED_AGAIN = datetime.timedelta(days=1)
"""For so long an hour is compared again where an entry came late."""

DUE = """
    SELECT hour.id FROM provisioning_billedhour hour
    WHERE hour.deployment_id IS NOT NULL AND hour.begins_at <= %(begun_before)s
        AND (hour.compared_at IS NULL OR (hour.begins_at > %(begun_after)s AND EXISTS (
            SELECT 1 FROM provisioning_costentry entry
            JOIN provisioning_deployment deployment ON deployment.id = entry.deployment_id
            WHERE deployment.tenant_id = hour.tenant_id AND deployment.name = hour.deployment_name
                AND entry.occurred_at >= hour.begins_at AND entry.occurred_at < hour.begins_at + interval '1 hour'
                AND entry.source = 'estimate' AND entry.recorded_at > hour.compared_at
        )))
        AND NOT EXISTS (
            SELECT 1 FROM provisioning_container container
            JOIN provisioning_deployment deployment ON deployment.id = container.deployment_id
            WHERE deployment.tenant_id = hour.tenant_id AND deployment.name = hour.deployment_name
                AND NOT container.is_settled AND container.started_at < hour.begins_at + interval '1 hour'
                AND coalesce(container.settled_until, container.started_at) < hour.begins_at + interval '1 hour'
        )
    ORDER BY hour.begins_at
"""


class Share(NamedTuple):
    """Who a part of an hour was charged to. `call_id` None: the pool."""

    tenant_id: uuid.UUID
    deployment_id: uuid.UUID
    call_id: uuid.UUID | None
    session_id: uuid.UUID | None
    part: str

    @property
    def payer(self) -> uuid.UUID:
        return self.session_id or self.deployment_id


def correct_hours(at: datetime.datetime | None = None) -> int:
    """Bring the ledger to the bill wherever that is due, and return in how many hours it was."""
    at = at or timezone.now()
    times = {"begun_before": at - ALL_ENTERED - HOUR, "begun_after": at - COMPARED_AGAIN}
    with connections["operator"].cursor() as cursor:
        cursor.execute(DUE, times)
        due = [hour_id for (hour_id,) in cursor.fetchall()]
    if due:
        with enter_operator("beat", reason="bring costs to the bill"):
            for hour_id in due:
                with atomic():
                    _correct(BilledHour.objects.select_for_update().get(pk=hour_id))
    return len(due)


def _correct(hour: BilledHour) -> None:
    pools = dict(
        Deployment.objects.filter(tenant_id=hour.tenant_id, name=hour.deployment_name).values_list("pk", "pool_id")
    )
    entries = CostEntry.objects.filter(
        deployment_id__in=list(pools),
        occurred_at__gte=hour.begins_at,
        occurred_at__lt=hour.ends_at,
        part__in=CostEntry.OF_CONTAINERS,
    )
    spent: dict[Share, int] = {}
    estimated: dict[Share, int] = {}
    for entry in entries.order_by("recorded_at", "pk"):
        share = _share_of(entry)
        spent[share] = spent.get(share, 0) + entry.nano_dollars
        if entry.source == CostEntry.Source.ESTIMATE:
            estimated[share] = estimated.get(share, 0) + entry.nano_dollars
    assert hour.deployment_id is not None
    nobody = Share(hour.tenant_id, hour.deployment_id, None, None, CostEntry.Part.IDLE_WARM)
    corrections = billed_corrections(spent, estimated=estimated, billed=hour.billed_nano_dollars, nobody=nobody)
    CostEntry.objects.bulk_create(
        CostEntry(
            tenant_id=share.tenant_id,
            pool_id=pools[share.deployment_id],
            deployment_id=share.deployment_id,
            call_id=share.call_id,
            session_id=share.session_id,
            part=share.part,
            nano_dollars=amount,
            source=CostEntry.Source.PROVIDER,
            occurred_at=hour.ends_at - MOMENT,
            idempotency_key=f"billed:{hour.pk}:{hour.corrections}:{share.payer}:{share.part}",
        )
        for share, amount in corrections.items()
        if amount
    )
    hour.become_compared(estimated=sum(estimated.values()))


def _share_of(entry: CostEntry) -> Share:
    """Return who pays for an entry. An adjustment is of the time that was talked."""
    assert entry.deployment_id is not None
    part = CostEntry.Part.ACTIVE if entry.part == CostEntry.Part.ADJUSTMENT else entry.part
    return Share(entry.tenant_id, entry.deployment_id, entry.call_id, entry.session_id, part)
