"""What a call that we place over SIP is to the database: claimed by one process, and let talk when it is answered."""

from __future__ import annotations

import dataclasses
import uuid

from django.utils import timezone

from voice.telephony.models import Carrier, TelephoneLeg
from voice.telephony.records import StoredLeg, in_tenant
from voice.telephony.routing import CallDeclined, grant


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    record: StoredLeg
    our_number: str
    other_number: str


async def claim(tenant_id: uuid.UUID, leg_id: uuid.UUID) -> Placed | None:
    """Take a waiting leg for this process, which rings now; None where another has it, or it is over."""

    def write() -> Placed | None:
        waiting = TelephoneLeg.objects.filter(pk=leg_id, carrier=Carrier.SIP, status=TelephoneLeg.Status.WAITING)
        if not waiting.update(status=TelephoneLeg.Status.RINGING, rang_at=timezone.now()):
            return None
        leg = TelephoneLeg.objects.get(pk=leg_id)
        return Placed(StoredLeg(tenant_id, leg_id), leg.our_number, leg.other_number)

    return await in_tenant(tenant_id, write)


async def grant_call(record: StoredLeg) -> str:
    """Return a ticket for the call of a leg that was answered.

    Raises:
        CallDeclined: the account or the agent cannot take calls any more.
    """

    def look() -> str:
        leg = TelephoneLeg.objects.select_related("agent").get(pk=record.leg_id)
        if leg.agent is None:
            raise CallDeclined("There is no agent for this call any more.")
        return grant(leg, leg.agent).ticket

    return await in_tenant(record.tenant_id, look)
