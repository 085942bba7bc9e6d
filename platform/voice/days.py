"""Making the days anew that overviews read: after calls were imported, or when the tenant's time zone has changed."""

from __future__ import annotations

from django.db import connections

from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias
from voice import statements
from voice.models import GOOD_ENDS


def rebuild_days() -> None:
    """Add up all ended calls of the entered tenant by day. See also: voice.calls.end_call, which adds each."""
    entered_tenant_id()
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(statements.FORGET_DAYS)
        cursor.execute(statements.ADD_ALL_TO_DAYS, {"good_ends": [reason.value for reason in GOOD_ENDS]})
