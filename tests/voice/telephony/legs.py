"""The legs of a tenant's calls, as tests read them."""

from __future__ import annotations

from typing import Any

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice.processes import wait_until
from voice.telephony.models import TelephoneLeg


def the_leg(tenant: Tenant, **of: Any) -> TelephoneLeg:
    with enter_tenant(tenant.id):
        return TelephoneLeg.objects.select_related("call").get(**of)


def finished(tenant: Tenant, **of: Any) -> TelephoneLeg:
    """Wait until a leg and its call are over."""

    def is_over() -> bool:
        with enter_tenant(tenant.id):
            leg = TelephoneLeg.objects.select_related("call").filter(**of).first()
        return leg is not None and leg.is_finished and (leg.call is None or leg.call.status == "ended")

    wait_until(is_over, within_seconds=20, what="the end of the leg")
    return the_leg(tenant, **of)
