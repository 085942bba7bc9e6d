"""What is known of a call's telephone line: for its tools, and for its record."""

from __future__ import annotations

import dataclasses
from typing import Any

from voice.models import Call
from voice.telephony.costs import cost_of
from voice.telephony.models import TelephoneLeg
from voice.telephony.routing import has_person_behind


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
    return Line(caller_number=leg.other_number, puts_through=has_person_behind(leg.our_number))


def leg_record(leg: TelephoneLeg) -> dict[str, Any]:
    """Return a leg as a call's record shows it. JSON values only; what was not measured is None."""
    return {
        "role": leg.role,
        "direction": leg.direction,
        "carrier": leg.carrier,
        "carrier_name": leg.get_carrier_display(),
        "carrier_ref": leg.carrier_ref,
        "our_number": leg.our_number,
        "other_number": leg.other_number,
        "status": leg.status,
        "answered_by": leg.answered_by,
        "rang_at": leg.rang_at.isoformat(),
        "ring_ms": None if leg.ring_seconds is None else round(leg.ring_seconds * 1000),
        "carrier_seconds": leg.carrier_seconds,
        "cost_nano_dollars": cost_of(leg),
        "end_kind": leg.end_kind,
        "transferred_to": leg.transferred_to,
        "codec": leg.codec,
        "packets": {
            "received": leg.packets_received,
            "lost": leg.packets_lost,
            "late": leg.packets_late,
            "concealed": leg.frames_concealed,
        },
        "jitter_ms": leg.jitter_ms,
        "peer": {
            "packets_lost": leg.peer_packets_lost,
            "jitter_ms": leg.peer_jitter_ms,
            "round_trip_ms": leg.round_trip_ms,
        },
        "bridge_ms": {"p50": _rounded(leg.bridge_ms_p50), "p99": _rounded(leg.bridge_ms_p99)},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
