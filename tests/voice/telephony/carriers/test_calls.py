"""What a call is at each carrier, with a process in the carrier's place.

The next carrier is a stand-in in tests/carriers, and a line in STAND_INS.
"""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice.telephony.carriers.each import PRICE_NANO_DOLLARS, at_each_carrier
from tests.voice.telephony.conftest import Connect
from tests.voice.telephony.legs import finished
from tests.voice.telephony.processes import CALLER, NUMBER, STAND_INS, CarrierProcess
from voice.reconciliation import differences
from voice.telephony import prices
from voice.telephony.carriers import CARRIERS
from voice.telephony.models import Carrier, TelephoneLeg

ESTIMATES = {"twilio": 12_500_000}
"""Of a minute that somebody called us."""


def test_each_carrier_has_a_stand_in() -> None:
    assert set(STAND_INS) == set(CARRIERS) == set(Carrier.values) - {"sip"}


@at_each_carrier
def test_a_caller_rings_talks_and_hangs_up(peer: CarrierProcess, acme: Tenant, place: Any, number_of: Connect) -> None:
    _, agent = number_of("whistle")
    sid = peer.call({"hear": 0.5}, {"tone": 0.6}, {"hear": 0.5}, {"hang_up": True})
    seen = peer.end_of(sid)
    assert seen["events"][0] == "stream" and seen["loud_seconds"] > 1

    leg = finished(acme)
    assert (leg.carrier, leg.carrier_ref, leg.our_number, leg.other_number) == (peer.carrier, sid, NUMBER, CALLER)
    assert (leg.status, leg.direction, leg.end_kind, leg.codec) == ("completed", "inbound", "caller_hung_up", "PCMU")
    assert leg.packets_received and leg.packets_received > 50
    assert leg.packets_lost == leg.packets_late == leg.frames_concealed == 0
    assert leg.ring_seconds is not None and 0 <= leg.ring_seconds < 5
    assert leg.bridge_ms_p50 and leg.bridge_ms_p50 < 20
    assert leg.carrier_seconds and leg.carrier_seconds < 30
    call = leg.call
    assert call is not None and call.agent_id == agent.id
    assert (call.channel, call.end_reason, call.close_code) == ("telephone", "caller_hung_up", 1000)
    assert call.turns_count == 1

    estimate = ESTIMATES.get(peer.carrier, 0)
    entries = CostEntry.objects.filter(part="telephony", call_id=call.pk).order_by("recorded_at")
    with enter_tenant(acme.id):
        assert [(each.source, each.nano_dollars) for each in entries] == [("estimate", estimate)] * bool(estimate)
        assert list(differences()) == []
        assert leg.ended_at is not None
        TelephoneLeg.objects.update(ended_at=leg.ended_at - datetime.timedelta(minutes=5))
    for _ in range(2):  # the carrier's own price corrects the estimate, once
        prices.enter_price(tenant_id=str(acme.id), leg_id=str(leg.pk))
    with enter_tenant(acme.id):
        told = list(entries.all())
        assert sum(each.nano_dollars for each in told) == PRICE_NANO_DOLLARS and told[-1].source == "provider"
        assert len(told) == 1 + bool(estimate)


@at_each_carrier
@pytest.mark.parametrize(
    ("trouble", "loses"),
    [({"loses": 10}, True), ({"swaps": 7, "repeats": 5, "babbles": 20}, False)],
    ids=["loses messages", "swaps and repeats messages, and babbles"],
)
def test_a_stream_in_trouble_is_understood(
    peer: CarrierProcess, acme: Tenant, place: Any, number_of: Connect, trouble: dict[str, int], loses: bool
) -> None:
    number_of("whistle")
    sid = peer.call({"trouble": trouble}, {"hear": 0.5}, {"tone": 0.8}, {"hear": 0.5}, {"hang_up": True})
    assert peer.end_of(sid)["loud_seconds"] > 1
    leg = finished(acme)
    assert leg.call is not None and leg.call.turns_count == 1
    assert bool(leg.packets_lost) is bool(leg.frames_concealed) is loses
    assert leg.packets_late == 0


@at_each_carrier
def test_a_call_that_ends_without_a_goodbye_is_closed_by_the_status(
    peer: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("whistle")
    sid = peer.call({"hear": 0.3}, {"freeze": True})
    leg = finished(acme)
    assert leg.status == "completed" and leg.carrier_seconds == 3
    assert leg.call is not None and leg.call.end_reason == "caller_hung_up"
    assert "frozen" in peer.read(sid)["events"]


@at_each_carrier
def test_keys_reach_the_agent_who_hangs_up(peer: CarrierProcess, acme: Tenant, place: Any, number_of: Connect) -> None:
    number_of("reads_keys")
    sid = peer.call({"wait": 0.5}, {"keys": "42#"}, {"stay": True})
    assert "Hangup" in peer.end_of(sid)["requests"][1]["body"]
    leg = finished(acme)
    assert leg.end_kind == "agent_hung_up" and leg.call is not None and leg.call.end_reason == "agent_hung_up"


@at_each_carrier
@pytest.mark.parametrize("person", ["+14155550199", "+14155559999"], ids=["who answers", "who does not answer"])
def test_a_caller_is_put_through_to_a_person(
    peer: CarrierProcess, acme: Tenant, place: Any, number_of: Connect, person: str
) -> None:
    number_of("hand_over", forwards_to=person)
    seen = peer.end_of(peer.call({"stay": True}))
    assert [each.lstrip("+") for each in seen["dialled"]] == [person.lstrip("+")]
    caller, other = finished(acme, role="caller"), finished(acme, role="person")
    assert (caller.end_kind, caller.transferred_to) == ("transferred", person)
    assert other.call_id == caller.call_id and other.other_number == person
    if person.endswith("9999"):
        assert other.status == "no_answer" and "call you back" in seen["spoken"][0]
    else:
        assert other.status == "completed" and not seen["spoken"]
        assert other.carrier_seconds == (None if peer.carrier == "plivo" else 42)  # Plivo does not say


@at_each_carrier
def test_an_interruption_makes_the_carrier_forget_what_it_holds(
    peer: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("interrupted")
    sid = peer.call({"wait": 1}, {"hang_up": True})
    assert peer.end_of(sid)["events"].count("clear") >= 2  # one when the agent came, one for the interruption


@at_each_carrier
def test_the_agents_last_words_are_heard_before_the_line_closes(
    peer: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("last_words")
    assert peer.end_of(peer.call({"stay": True}))["loud_seconds"] > 1.3
