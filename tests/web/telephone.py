"""A tenant's telephone as pages show it: numbers, an account, legs of a call, rules, placed calls and a list."""

from __future__ import annotations

import datetime

from django.utils import timezone

from agents.models import Agent
from tests.carriers import twilio
from voice.models import Call
from voice.telephony.models import (
    CarrierAccount,
    DoNotCall,
    NumberHours,
    OutboundRules,
    TelephoneLeg,
    TelephoneNumber,
)


def fill(agent: Agent, call: Call) -> TelephoneNumber:
    """Fill the entered tenant, and return one of its numbers."""
    CarrierAccount.objects.create(**twilio.CREDENTIALS, last_four=twilio.TOKEN[-4:], saved_by="alice@acme.example")
    number = TelephoneNumber.objects.create(
        number="+14155550100",
        standing="confirmed",
        carrier="twilio",
        agent=agent,
        label="On the van",
        forwards_to="+14155550199",
    )
    NumberHours.objects.create(number=number, weekday=0, opens_at=datetime.time(9), closes_at=datetime.time(12, 30))
    TelephoneNumber.objects.create(number="+493012345678", carrier="sip", agent=agent)
    now = timezone.now()
    line = {
        "codec": "PCMU",
        "packets_received": 2412,
        "packets_lost": 3,
        "packets_late": 1,
        "frames_concealed": 4,
        "jitter_ms": 2.4,
        "bridge_ms_p50": 0.9,
        "bridge_ms_p99": 3.1,
        "peer_packets_lost": 7,
        "peer_jitter_ms": 3.8,
        "round_trip_ms": 41.5,
    }
    legs = {"call": call, "agent": agent, "carrier": "twilio", "our_number": number.number}
    TelephoneLeg.objects.create(
        **legs,
        **line,
        carrier_ref="CA" + "1" * 32,
        other_number="+12125550177",
        status="completed",
        rang_at=now - datetime.timedelta(minutes=2),
        answered_at=now - datetime.timedelta(minutes=2, seconds=-3),
        ended_at=now,
        carrier_seconds=117,
        end_kind="transferred",
        transferred_to="+14155550199",
    )
    TelephoneLeg.objects.create(
        **legs, role="person", direction="outbound", other_number="+14155550199", status="no_answer", ended_at=now
    )
    outbound = {"agent": agent, "direction": "outbound", "carrier": "twilio", "our_number": number.number}
    for last, status, problem in ((1, "no_answer", ""), (2, "failed", "Twilio refused: the number is not reachable.")):
        TelephoneLeg.objects.create(**outbound, other_number=f"+1212555018{last}", status=status, problem=problem)
    OutboundRules.objects.create(agreed_by="alice@acme.example", weekdays=[0, 1, 2, 3, 4])
    DoNotCall.objects.create(number="+12125550178", reason="Asked for it in a call.", added_by="alice@acme.example")
    return number
