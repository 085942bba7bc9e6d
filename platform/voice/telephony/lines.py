"""What a call's tools may know of its telephone line."""

from __future__ import annotations

import dataclasses

from voice.models import Call
from voice.telephony.models import TelephoneLeg, TelephoneNumber


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    caller_number: str = ""
    """Empty: withheld, or no telephone."""
    puts_through: bool = False
    """Whether somebody takes over callers whom an agent hands to a person."""


def line_of(call: Call) -> Line:
    """Return the line of a call of the entered tenant."""
    if call.channel != Call.Channel.TELEPHONE:
        return Line()
    leg = TelephoneLeg.objects.callers().filter(call=call).first()
    if leg is None:
        return Line()
    forwards = TelephoneNumber.objects.filter(number=leg.our_number).exclude(forwards_to="").exists()
    return Line(caller_number=leg.other_number, puts_through=forwards)
