"""Calls over a simulated Twilio: its webhooks, its streams message by message, and its REST API, as processes."""

from __future__ import annotations

import datetime
import json
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twilio.request_validator import RequestValidator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from agents.models import HandOff
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.carriers import twilio as stand_in
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import wait_until
from tests.voice.telephony.conftest import Exchange
from tests.voice.telephony.processes import CALLER, NUMBER, CarrierProcess, TelephonyProcess
from voice.reconciliation import differences
from voice.telephony import prices
from voice.telephony.models import TelephoneLeg
from voice.telephony.routing import grant

Connect = Callable[..., Any]
ALL_DAY = {weekday: [(datetime.time(0, 0), datetime.time(23, 59, 59))] for weekday in range(7)}


def the_leg(tenant: Tenant, **of: Any) -> TelephoneLeg:
    with enter_tenant(tenant.id):
        return TelephoneLeg.objects.select_related("call").get(**of)


def finished(tenant: Tenant, **of: Any) -> TelephoneLeg:
    """Wait until a leg and its call are over."""

    def is_over() -> bool:
        with enter_tenant(tenant.id):
            leg = TelephoneLeg.objects.select_related("call").filter(**of).first()
        return leg is not None and leg.is_finished and (leg.call is None or leg.call.status == "ended")

    wait_until(is_over, what="the end of the leg")
    return the_leg(tenant, **of)


def test_a_caller_rings_talks_and_hangs_up(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    _, agent = number_of("whistle")
    sid = twilio.call({"hear": 0.5}, {"tone": 0.6}, {"hear": 0.5}, {"hang_up": True})
    seen = twilio.end_of(sid)
    assert seen["events"][0] == "stream" and seen["loud_seconds"] > 1

    leg = finished(acme)
    assert (leg.carrier_ref, leg.our_number, leg.other_number) == (sid, NUMBER, CALLER)
    assert (leg.status, leg.direction, leg.end_kind, leg.codec) == ("completed", "inbound", "caller_hung_up", "PCMU")
    assert leg.packets_received and leg.packets_received > 50
    assert leg.packets_lost == leg.packets_late == leg.frames_concealed == 0
    assert leg.ring_seconds is not None and 0 <= leg.ring_seconds < 5
    assert leg.bridge_ms_p50 and leg.bridge_ms_p50 < 20
    call = leg.call
    assert call is not None and call.agent_id == agent.id
    assert (call.channel, call.end_reason, call.close_code) == ("telephone", "caller_hung_up", 1000)
    assert call.turns_count == 1

    with enter_tenant(acme.id):
        (minutes,) = CostEntry.objects.of_call(call.id).filter(part="telephony")
        assert minutes.nano_dollars == 12_500_000 and minutes.source == "estimate"
        assert list(differences()) == []


def test_the_carriers_own_price_corrects_the_estimate_once(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("whistle")
    twilio.end_of(twilio.call({"hear": 0.3}, {"hang_up": True}))
    leg = finished(acme)
    with enter_tenant(acme.id):
        TelephoneLeg.objects.update(ended_at=leg.ended_at - datetime.timedelta(minutes=5))  # type: ignore[operator]
    for _ in range(2):
        prices.enter_price(tenant_id=str(acme.id), leg_id=str(leg.pk))
    with enter_tenant(acme.id):
        entries = CostEntry.objects.filter(part="telephony", call_id=leg.call_id)
        assert [(each.source, each.nano_dollars) for each in entries.order_by("recorded_at")] == [
            ("estimate", 12_500_000),
            ("provider", -4_000_000),
        ]


@pytest.mark.parametrize(
    ("trouble", "loses"),
    [({"loses": 10}, True), ({"swaps": 7, "repeats": 5, "babbles": 20}, False)],
    ids=["loses messages", "swaps and repeats messages, and babbles"],
)
def test_a_stream_in_trouble_is_understood(
    twilio: CarrierProcess,
    acme: Tenant,
    place: Any,
    number_of: Connect,
    trouble: dict[str, int],
    loses: bool,
) -> None:
    number_of("whistle")
    sid = twilio.call({"trouble": trouble}, {"hear": 0.5}, {"tone": 0.8}, {"hear": 0.5}, {"hang_up": True})
    assert twilio.end_of(sid)["loud_seconds"] > 1
    leg = finished(acme)
    assert leg.call is not None and leg.call.turns_count == 1
    assert bool(leg.packets_lost) is bool(leg.frames_concealed) is loses
    assert leg.packets_late == 0


def test_a_call_that_ends_without_a_goodbye_is_closed_by_the_status(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("whistle")
    sid = twilio.call({"hear": 0.3}, {"freeze": True})
    leg = finished(acme)
    assert leg.status == "completed" and leg.carrier_seconds == 3
    assert leg.call is not None and leg.call.end_reason == "caller_hung_up"
    assert "frozen" in twilio.read(sid)["events"]


def test_keys_reach_the_agent(twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect) -> None:
    number_of("reads_keys")
    sid = twilio.call({"wait": 0.5}, {"keys": "42#"}, {"stay": True})
    assert "Hangup" in twilio.end_of(sid)["requests"][1]["body"]
    leg = finished(acme)
    assert leg.end_kind == "agent_hung_up" and leg.call is not None and leg.call.end_reason == "agent_hung_up"


@pytest.mark.parametrize("person", ["+14155550199", "+14155559999"], ids=["who answers", "who does not answer"])
def test_a_caller_is_put_through_to_a_person(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect, person: str
) -> None:
    number_of("hand_over", forwards_to=person)
    seen = twilio.end_of(twilio.call({"stay": True}))
    assert seen["dialled"] == [person]
    caller, other = finished(acme, role="caller"), finished(acme, role="person")
    assert (caller.end_kind, caller.transferred_to) == ("transferred", person)
    assert other.call_id == caller.call_id and other.other_number == person
    if person.endswith("9999"):
        assert other.status == "no_answer" and "call you back" in seen["spoken"][0]
    else:
        assert (other.status, other.carrier_seconds) == ("completed", 42) and not seen["spoken"]


def test_an_interruption_makes_twilio_forget_what_it_holds(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("interrupted")
    sid = twilio.call({"wait": 1}, {"hang_up": True})
    assert twilio.end_of(sid)["events"].count("clear") >= 2  # one when the agent came, one for the interruption


def test_the_agents_last_words_are_heard_before_the_line_closes(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("last_words")
    seen = twilio.end_of(twilio.call({"stay": True}))
    assert seen["loud_seconds"] > 1.3


def test_callers_are_told_when_all_lines_are_busy(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    _, agent = number_of("whistle")
    with enter_tenant(acme.id):
        for _ in range(100):
            factories.create_call(agent=agent)
    seen = twilio.end_of(twilio.call({"stay": True}))
    assert "busy" in seen["spoken"][0]
    assert finished(acme).end_kind == "refused"


def test_outside_its_hours_a_number_says_so_or_has_another_agent(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    never = {0: [(datetime.time(3, 0), datetime.time(3, 0, 1))]}
    number, _ = number_of("whistle", hours=never, outside_message="We are closed.")
    assert twilio.end_of(twilio.call())["spoken"] == ["We are closed."]
    with enter_tenant(acme.id):
        night = factories.create_agent(slug="night", prompt="mode: whistle")
        number.outside, number.outside_agent = "agent", night
        number.save()
    sid = twilio.call({"hear": 0.3}, {"hang_up": True})
    twilio.end_of(sid)
    leg = finished(acme, carrier_ref=sid)
    assert leg.call is not None and leg.call.agent_id == night.id


def test_in_its_hours_a_number_has_its_agent(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("whistle", hours=ALL_DAY)
    assert twilio.end_of(twilio.call({"hear": 0.3}, {"hang_up": True}))["spoken"] == []


def test_an_agent_without_a_version_is_not_in_service(twilio: CarrierProcess, acme: Tenant, number_of: Connect) -> None:
    _, agent = number_of("whistle")
    with enter_tenant(acme.id):
        agent.live_version = None
        agent.save()
    assert "not in service" in twilio.end_of(twilio.call())["spoken"][0]


def post(url: str, form: dict[str, str], signature: str) -> int:
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode(), {"X-Twilio-Signature": signature})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code


@pytest.mark.parametrize(
    "forgery", ["no signature", "another token", "another form", "another address", "another account", "no number"]
)
def test_what_twilio_did_not_sign_is_refused(
    exchange: Exchange, acme: Tenant, number_of: Connect, forgery: str
) -> None:
    number_of("whistle")
    url = exchange[2].url + "/telephone/twilio/voice/"
    form = {"AccountSid": stand_in.ACCOUNT, "CallSid": "CA1", "From": CALLER, "To": NUMBER, "CallStatus": "ringing"}
    if forgery == "another account":
        form["AccountSid"] = "AC" + "b" * 32
    if forgery == "no number":
        form["To"] = "+14155550999"
    signed = RequestValidator("x" * 32 if forgery == "another token" else stand_in.TOKEN).compute_signature(
        url.replace("voice", "after") if forgery == "another address" else url, form
    )
    if forgery == "another form":
        form["From"] = "+19005550100"
    assert post(url, form, "" if forgery == "no signature" else signed) == 403
    with enter_tenant(acme.id):
        assert not TelephoneLeg.objects.exists()


def test_a_ring_that_twilio_repeats_is_one_leg(exchange: Exchange, acme: Tenant, number_of: Connect) -> None:
    number_of("whistle")
    url = exchange[2].url + "/telephone/twilio/voice/"
    form = {"AccountSid": stand_in.ACCOUNT, "CallSid": "CA1", "From": "anonymous", "To": NUMBER}
    signature = RequestValidator(stand_in.TOKEN).compute_signature(url, form)
    assert [post(url, form, signature) for _ in range(2)] == [200, 200]
    assert the_leg(acme).other_number == ""


def test_a_caller_whose_stream_nobody_took_is_told_that_all_lines_are_busy(
    exchange: Exchange, acme: Tenant, number_of: Connect
) -> None:
    number_of("whistle")
    form = {"AccountSid": stand_in.ACCOUNT, "CallSid": "CA1", "From": CALLER, "To": NUMBER}
    for path, words in (("voice", "<Stream"), ("after", "all our lines are busy")):
        url = f"{exchange[2].url}/telephone/twilio/{path}/"
        signature = RequestValidator(stand_in.TOKEN).compute_signature(url, form)
        body = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body, {"X-Twilio-Signature": signature})) as answer:
            assert words in answer.read().decode()


def test_a_process_that_is_stopped_lets_its_calls_end_and_writes_how(
    gateway: GatewayProcess, acme: Tenant, place: Any, number_of: Connect, tmp_path: Path
) -> None:
    _, agent = number_of("whistle")
    telephony = TelephonyProcess(tmp_path, gateway_url=gateway.url, TELEPHONY_DRAIN_SECONDS="0.5")
    with enter_tenant(acme.id):
        granted = grant(TelephoneLeg.objects.create(carrier="twilio", our_number=NUMBER), agent)
    parameters = {"leg": granted.leg_token, "ticket": granted.ticket}
    start = {"streamSid": "MZ1", "callSid": "CA1", "customParameters": parameters}
    with connect(f"{telephony.url}/twilio", compression=None, proxy=None) as stream:
        stream.send(json.dumps({"event": "connected"}))
        stream.send(json.dumps({"event": "start", "start": start}))
        assert json.loads(stream.recv(timeout=10))["streamSid"] == "MZ1"
        telephony.process.child.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            while True:
                stream.recv(timeout=10)
    assert telephony.process.child.wait(15) == 0
    telephony.process.stop()
    leg = the_leg(acme)
    assert (leg.end_kind, leg.close_code, leg.codec) == ("lost", 1001, "PCMU")


@pytest.mark.parametrize(
    "messages",
    [
        ["not json"],
        ['{"event":"media"}'],
        ['{"event":"connected"}', '{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1"}}'],
        ['{"event":"start","start":{"streamSid":"MZ1","customParameters":{"leg":"forged","ticket":"any"}}}'],
        ['{"event":"start","start":{"mediaFormat":{"encoding":"audio/l16"}}}'],
        ["x" * 100_000],
    ],
    ids=["no json", "no start", "no parameters", "a forged leg", "another format", "too long"],
)
def test_a_stranger_at_the_streams_door_is_let_go(exchange: Exchange, messages: list[str]) -> None:
    with connect(f"{exchange[1].url}/twilio", compression=None, proxy=None) as stranger:
        for message in messages:
            stranger.send(message)
        with pytest.raises(ConnectionClosed):
            stranger.recv(timeout=5)
    assert exchange[1].health()["calls"] == 0


def test_an_unknown_carrier_is_let_go(exchange: Exchange) -> None:
    with (
        connect(f"{exchange[1].url}/nobody", compression=None, proxy=None) as stranger,
        pytest.raises(ConnectionClosed),
    ):
        stranger.recv(timeout=5)


def test_a_hand_over_leaves_a_note_for_the_tenant_too(acme: Tenant) -> None:
    """The tool's own test is tests/agents/test_leaving_word.py; here: it knows that a person can be reached."""
    from agents.tools import ToolContext, run_tool

    with enter_tenant(acme.id):
        agent = factories.create_agent()
        context = ToolContext(
            tenant_id=acme.id,
            agent=agent,
            call_id=None,
            turn_index=1,
            now=datetime.datetime.now(datetime.UTC),
            caller_number=CALLER,
            puts_through=True,
        )
        result = run_tool("hand_off", {"reason": "Wants a person."}, context)
        assert result.ok and result.result is not None and result.result["puts_through"] is True
        (note,) = HandOff.objects.all()
        assert note.contact is not None and note.contact.phone == CALLER
