"""What a ring over SIP becomes: a leg of the tenant whose number was dialled, and leave for its call."""

from __future__ import annotations

import dataclasses
import re
import uuid

from aiosipua import SipRequest, parse_uri
from django.utils import timezone

from voice.telephony.clips import find_clip
from voice.telephony.ending import finish_leg
from voice.telephony.models import Carrier, TelephoneLeg, TelephoneNumber
from voice.telephony.records import StoredLeg, beside_the_loop, in_tenant
from voice.telephony.routing import CallDeclined, choose_agent, find_tenant_of, grant

DIALLED = re.compile(r"(?:\+|00)?([1-9]\d{6,14})")
LONGEST_NAME = 120


class NoSuchNumber(Exception):
    """Nobody here has the number that was dialled."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rung:
    record: StoredLeg
    ticket: str = dataclasses.field(default="", repr=False)
    words: bytes = dataclasses.field(default=b"", repr=False)
    """What the caller is told in the place of an agent, as Ogg Opus."""
    problem: str = ""
    """The same as text."""


def numbers_of(request: SipRequest) -> list[str]:
    """Return the number dialled as E.164, the likeliest first: some trunks write it only into To."""
    addresses = [parse_uri(request.uri), request.to_addr.uri if request.to_addr else None]
    found = [DIALLED.fullmatch(each.user.partition(";")[0]) for each in addresses if each is not None and each.user]
    return list(dict.fromkeys(f"+{match[1]}" for match in found if match))


def caller_of(request: SipRequest) -> str:
    """Return the caller's number, or SIP address; empty where it is withheld."""
    uri = request.from_addr.uri if request.from_addr else None
    if uri is None or not uri.user or uri.user.lower() == "anonymous" or uri.host.lower() == "anonymous.invalid":
        return ""
    number = DIALLED.fullmatch(uri.user)
    return f"+{number[1]}" if number else f"sip:{uri.user}@{uri.host}"[:LONGEST_NAME]


async def ring(request: SipRequest, *, name: str) -> Rung:
    """Write down a leg for a ring, and get it leave to talk to its agent, or words where nobody answers now.

    Args:
        name: what the carrier's side and we call it.

    Raises:
        NoSuchNumber
        CallDeclined: the number has nobody who answers now, and its words are not spoken yet.
    """
    numbers = numbers_of(request)

    def look() -> tuple[uuid.UUID, str] | None:
        found = ((find_tenant_of(each), each) for each in numbers)
        return next(((tenant_id, number) for tenant_id, number in found if tenant_id is not None), None)

    whose = await beside_the_loop(look)
    if whose is None:
        raise NoSuchNumber
    tenant_id, dialled = whose

    def write() -> Rung | CallDeclined:
        number = (
            TelephoneNumber.objects.select_related("agent", "outside_agent")
            .filter(number=dialled, carrier=Carrier.SIP)
            .first()
        )
        if number is None:
            raise NoSuchNumber
        leg = TelephoneLeg.objects.create(
            carrier=Carrier.SIP, carrier_ref=name, our_number=dialled, other_number=caller_of(request)
        )
        try:
            leg.agent = choose_agent(number, at=timezone.now())
            leg.save(update_fields=["agent"])
            return Rung(StoredLeg(tenant_id, leg.pk), grant(leg, leg.agent).ticket)
        except CallDeclined as problem:
            if (clip := find_clip(str(problem))) is not None:
                return Rung(StoredLeg(tenant_id, leg.pk), words=clip, problem=str(problem))
            # Returned, so that the leg stays.
            finish_leg(leg, status=TelephoneLeg.Status.FAILED, problem=str(problem))
            return problem

    result = await in_tenant(tenant_id, write)
    if isinstance(result, CallDeclined):
        raise result
    return result
