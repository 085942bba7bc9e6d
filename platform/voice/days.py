"""Making the days anew that overviews read: after calls were imported, or for another time zone."""

from __future__ import annotations

from typing import Any

from django.db import connections

from tenants import audit
from tenants.models import Tenant, User, check_time_zone
from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias
from voice import ledger_days, statements
from voice.models import GOOD_ENDS


def rebuild_days() -> None:
    """Add up all ended calls of the entered tenant by day. See also: voice.calls.end_call, which adds each."""
    _run(statements.FREEZE_DAYS)
    _run(statements.FORGET_DAYS)
    _run(statements.ADD_ALL_TO_DAYS, good_ends=[reason.value for reason in GOOD_ENDS])


def change_time_zone(tenant: Tenant, time_zone: str, *, actor: User) -> None:
    """Let the entered tenant's days begin at another hour: also those that have been, in the same transaction.

    Times that are one moment (of calls, appointments) stay what they are; hours of the week are read in the new zone.

    Raises:
        ValidationError: there is no such zone.
    """
    check_time_zone(time_zone)
    _run(statements.FREEZE_DAYS)
    before, tenant.time_zone = tenant.time_zone, time_zone
    tenant.save(update_fields=["time_zone"])
    rebuild_days()
    ledger_days.rebuild()
    audit.record(
        action="tenant.time_zone_changed", target=tenant.slug, actor=actor, details={"from": before, "to": time_zone}
    )


def _run(statement: str, **values: Any) -> None:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(statement, {"tenant_id": entered_tenant_id(), **values})
