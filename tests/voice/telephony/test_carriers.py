"""What a call is at each carrier: its webhooks, its stream message by message, and its API, as processes.

The next carrier is a stand-in in tests/carriers, and a line in STAND_INS.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from django.conf import settings
from django.test import RequestFactory
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.utils import timezone
from websockets.asyncio.client import connect as connect_async
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.sync.client import connect

from provisioning.models import CostEntry
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers import signalwire as signalwire_stand_in
from tests.carriers import telnyx as telnyx_stand_in
from tests.carriers.calls import Call
from tests.carriers.network import StandIn
from tests.voice.telephony.conftest import Exchange
from tests.voice.telephony.processes import CALLER, NUMBER, OTHER_NUMBER, STAND_INS, CarrierProcess
from tests.voice.telephony.test_outbound import final
from tests.voice.telephony.test_twilio import finished, the_leg
from voice.reconciliation import differences
from voice.telephony import numbers, outbound, prices, sweeping
from voice.telephony.carriers import CARRIERS, plivo
from voice.telephony.dialects import TELNYX
from voice.telephony.g711 import PCMA
from voice.telephony.legs import Sound
from voice.telephony.models import Carrier, CarrierAccount, TelephoneLeg
from voice.telephony.streams import StreamLeg, started

Connect = Callable[..., Any]
at_each_carrier = pytest.mark.parametrize("carrier", list(STAND_INS))
ESTIMATES = {"twilio": 12_500_000}
"""Of a minute that somebody called us."""
PRICE = 8_500_000


def test_each_carrier_has_a_stand_in() -> None:
    assert set(STAND_INS) == set(CARRIERS) == set(Carrier.values) - {"sip"}


# --- calls -----------------------------------------------------------------------------------------------------------
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
        assert sum(each.nano_dollars for each in told) == PRICE and told[-1].source == "provider"
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


# --- webhooks --------------------------------------------------------------------------------------------------------
def ring(stand_in: StandIn, **of: str) -> dict[str, str]:
    """Return what a carrier posts when somebody calls."""
    call = Call(sid="CA1", from_number=CALLER, to_number=NUMBER, steps=[])
    return {**stand_in.form(call), **of}


def post(url: str, form: dict[str, str], headers: dict[str, str]) -> tuple[int, str]:
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, ""


FORGERIES = ["no signature", "another token", "another form", "no number", "no call", "another carrier"]


@pytest.mark.parametrize(
    ("carrier", "forgery"),
    [(carrier, forgery) for carrier in STAND_INS for forgery in FORGERIES]
    + [(carrier, "another address") for carrier in STAND_INS if carrier != "telnyx"]
    + [("twilio", "another account"), ("signalwire", "another account"), ("telnyx", "an old one")],
)
def test_what_the_carrier_did_not_sign_is_refused(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, number_of: Connect, tmp_path: Path, forgery: str
) -> None:
    number_of("whistle")
    module = STAND_INS[peer.carrier]
    url = f"{exchange[2].url}/telephone/{peer.carrier}/voice/"
    form = ring(module.STAND_IN(tmp_path))
    of_call = next(name for name in ("CallSid", "CallUUID") if name in form)
    form.update(
        {
            "another account": {"AccountSid": "AC" + "b" * 32},
            "no number": {"To": "+14155550999"},
            "no call": {of_call: ""},
        }.get(forgery, {})
    )
    signed_url = url.replace("voice", "after") if forgery == "another address" else url
    if forgery == "another carrier":
        module = STAND_INS["plivo" if peer.carrier == "twilio" else "twilio"]
    if forgery == "an old one":
        headers = telnyx_stand_in.sign(url, form, at=time.time() - 400)
    else:
        headers = module.sign(signed_url, form, *["x" * 32] * (forgery == "another token"))
    if forgery == "another form":
        form["From"] = "+19005550100"
    assert post(url, form, {} if forgery == "no signature" else headers)[0] == 403
    with enter_tenant(acme.id):
        assert not TelephoneLeg.objects.exists()


@at_each_carrier
def test_what_is_said_of_another_call_changes_no_placed_one(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, number_of: Connect, tmp_path: Path
) -> None:
    """Telnyx signs no address, and some carriers tell of a person put through to at the address of the caller."""
    _, agent = number_of("whistle")
    stand_in = STAND_INS[peer.carrier].STAND_IN(tmp_path)
    person = "+14155550199"
    of = {"carrier": peer.carrier, "direction": "outbound", "our_number": NUMBER, "agent": agent}
    with enter_tenant(acme.id):
        leg = TelephoneLeg.objects.create(other_number=CALLER, carrier_ref="a request", **of)
        TelephoneLeg.objects.create(other_number=CALLER, carrier_ref="another", **of)

    def say(name: str, ref: str, status: str, *, to: str = CALLER) -> tuple[str, str]:
        """Return the leg's status after a webhook at its address, and what that answered."""
        call = Call(sid=ref, from_number=NUMBER, to_number=to, steps=[], status=status)
        form = stand_in.form(call)
        url = f"{exchange[2].url}/telephone/{peer.carrier}/{name}/{leg.pk}/"
        code, document = post(url, form, stand_in.sign(url, form))
        assert code in (200, 204)
        with enter_tenant(acme.id):
            leg.refresh_from_db()
        return leg.status, document

    for other in ({"ref": "a child", "to": person}, {"ref": "another"}):
        status, document = say("answered", status="in-progress", **other)
        assert status == "ringing" and "Stream" not in document
        assert say("status", status="completed", **other)[0] == "ringing"
    assert "<Stream" in say("answered", "its own", "in-progress")[1] and leg.carrier_ref == "its own"
    for other in ({"ref": "a child", "to": person}, {"ref": "a child"}, {"ref": "another"}):
        assert say("status", status="completed", **other)[0] == "answered"
        assert "Stream" not in say("answered", status="in-progress", **other)[1]
    assert say("status", "its own", "completed")[0] == "completed"


def test_without_a_signing_key_nothing_is_signed(acme: Tenant) -> None:
    url, form = "https://web.example.com/telephone/signalwire/voice/", {"To": NUMBER}
    request = RequestFactory().post(url, form, headers=signalwire_stand_in.sign(url, form, "None"))
    with enter_tenant(acme.id):
        account = CarrierAccount(tenant=acme, carrier="signalwire", token="t" * 20, signing_key=None)
        assert not CARRIERS["signalwire"].is_signed(account, request, url)
        account.signing_key = "None"
        assert CARRIERS["signalwire"].is_signed(account, request, url)


@pytest.mark.parametrize("carrier", ["telnyx"])
@pytest.mark.parametrize("oddity", ["multipart", "JSON", "a long time", "a long duration", "a NUL"])
def test_what_strangers_post_is_no_error_of_ours(
    exchange: Exchange, number_of: Connect, tmp_path: Path, oddity: str
) -> None:
    number_of("whistle")
    stand_in = telnyx_stand_in.STAND_IN(tmp_path)
    url = f"{exchange[2].url}/telephone/telnyx/voice/"
    form = ring(stand_in)
    form.update({"a long duration": {"CallDuration": "9" * 5000}, "a NUL": {"To": "\0"}}.get(oddity, {}))
    headers = stand_in.sign(url, {})
    if oddity == "a long time":
        headers["Telnyx-Timestamp"] = "9" * 5000
    body, content_type = urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
    if oddity == "multipart":
        content_type = MULTIPART_CONTENT
        body = encode_multipart(BOUNDARY, form)
    elif oddity == "JSON":
        body, content_type = json.dumps(form).encode(), "application/json"
    request = urllib.request.Request(url, body, {**headers, "Content-Type": content_type})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    with refusal.value:
        assert refusal.value.code == 403


@at_each_carrier
def test_a_ring_that_is_repeated_is_one_leg_and_without_a_stream_the_lines_are_busy(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, number_of: Connect, tmp_path: Path
) -> None:
    number_of("whistle")
    stand_in = STAND_INS[peer.carrier].STAND_IN(tmp_path)
    form = ring(stand_in, From="anonymous")
    answers = []
    for name in ("voice", "voice", "after"):
        url = f"{exchange[2].url}/telephone/{peer.carrier}/{name}/"
        answers.append(post(url, form, stand_in.sign(url, form)))
    assert [status for status, _ in answers] == [200, 200, 200]
    assert "<Stream" in answers[0][1] and "all our lines are busy" in answers[2][1]
    assert the_leg(acme).other_number == ""


def test_a_number_at_one_carrier_is_not_rung_by_another(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, alice: User, number_of: Connect, tmp_path: Path
) -> None:
    number_of("whistle")
    with enter_tenant(acme.id):
        CarrierAccount.objects.create(carrier="telnyx", **telnyx_stand_in.CREDENTIALS)
    stand_in = telnyx_stand_in.STAND_IN(tmp_path)
    url = f"{exchange[2].url}/telephone/telnyx/voice/"
    form = ring(stand_in)
    status, answer = post(url, form, stand_in.sign(url, form))
    assert status == 200 and "Stream" not in answer
    with enter_tenant(acme.id):
        assert not TelephoneLeg.objects.exists()
        # Its first signed request has told what Telnyx calls the account: another's is refused from then on.
        assert CarrierAccount.objects.get(carrier="telnyx").account_ref == telnyx_stand_in.ACCOUNT
    form["AccountSid"] = "another"
    assert post(url, form, stand_in.sign(url, form))[0] == 403


def test_plivos_signature_is_that_of_its_own_sdk() -> None:
    """The values were made with plivo.utils.validate_v3_signature of plivo 4.63.0."""
    form = {"To": ["14155550100"], "From": ["12125550177"], "CallUUID": ["a-b"], "Digits": ["2", "1"]}
    assert [
        plivo.signature("token", "https://web.example.com/telephone/plivo/voice/", form, "n1"),
        plivo.signature("token", "https://web.example.com/a/?b=2&a=1&b=1", form, "n1"),
        plivo.signature("token", "https://web.example.com/a/?b=2&a=1", {}, "n1"),
        plivo.signature("token", "https://web.example.com/a/", {}, "n1"),
    ] == SIGNATURES_OF_PLIVOS_SDK


SIGNATURES_OF_PLIVOS_SDK = [
    "WxjOPcvYJAokefeiPw+iO7xWl6HgVNKPXRnTcDkDaSc=",
    "0JNY1dK50Gzd4oCTkT+0PuvYfyF2m4bJzlqbWy1eAeI=",
    "yCEselh+oS9cEL/qhFy93W8Tc5smHRTcncIiONn6Mn8=",
    "yoflNU5Cv6xgX89L2oVPuBfOKpZb4LBn0dVvCqLZaUU=",
]


# --- streams ---------------------------------------------------------------------------------------------------------
@at_each_carrier
@pytest.mark.parametrize(
    "fault", ["no json", "no start", "no parameters", "a forged leg", "another format", "too long"]
)
def test_a_stranger_at_the_streams_door_is_let_go(exchange: Exchange, carrier: str, fault: str, tmp_path: Path) -> None:
    forged = {"leg": "forged", "ticket": "any"} if fault == "a forged leg" else {}
    in_address = not CARRIERS[carrier].dialect.parameters
    call = Call(sid="CA1", from_number=CALLER, to_number=NUMBER, steps=[])
    stream = STAND_INS[carrier].STAND_IN(tmp_path).peer(call, None, {} if in_address else forged)
    messages = [json.dumps(each) for each in stream.first_messages()]
    if fault == "another format":
        messages[-1] = messages[-1].replace("audio/x-mulaw", "audio/l16").replace("PCMU", "G722")
    messages = {"no json": ["not json"], "no start": ['{"event":"media"}'], "too long": ["x" * 100_000]}.get(
        fault, messages
    )
    address = f"{exchange[1].url}/{carrier}?{urllib.parse.urlencode(forged if in_address else {})}"
    with connect(address, compression=None, proxy=None) as stranger:
        for message in messages:
            stranger.send(message)
        with pytest.raises(ConnectionClosed):
            stranger.recv(timeout=5)
    assert exchange[1].health()["calls"] == 0


@at_each_carrier
def test_a_leg_of_another_codec_is_not_told_that_lines_are_busy(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, number_of: Connect, tmp_path: Path
) -> None:
    number_of("whistle")
    stand_in = STAND_INS[peer.carrier].STAND_IN(tmp_path)
    form = ring(stand_in)

    def ask(name: str) -> str:
        url = f"{exchange[2].url}/telephone/{peer.carrier}/{name}/"
        return post(url, form, stand_in.sign(url, form))[1]

    opened = next(ET.fromstring(ask("voice")).iter("Stream"))
    given = {each.attrib["name"]: each.attrib["value"] for each in opened.iter("Parameter")}
    call = Call(sid="CA1", from_number=CALLER, to_number=NUMBER, steps=[])
    with connect(opened.get("url") or opened.text or "", compression=None, proxy=None) as stream:
        for each in stand_in.peer(call, None, given).first_messages():
            stream.send(json.dumps(each).replace("audio/x-mulaw", "G722").replace("PCMU", "G722"))
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=5)
    leg = the_leg(acme)
    assert (leg.end_kind, leg.codec) == ("refused", "G722/8000")
    assert "something went wrong" in ask("after")
    with urllib.request.urlopen(f"{exchange[1].url.replace('ws', 'http')}/metrics", timeout=5) as answer:
        assert 'warmline_telephone_refused_total{reason="codec"}' in answer.read().decode()


@pytest.mark.parametrize(
    "start",
    [
        '{"mediaFormat": "x"}',
        '{"mediaFormat": {"encoding": []}}',
        '{"mediaFormat": {"sampleRate": "x"}}',
        '{"mediaFormat": {"sampleRate": Infinity}}',
        '{"customParameters": [1]}',
        "5",
    ],
)
def test_a_start_of_any_form_is_no_error_of_ours(exchange: Exchange, start: str) -> None:
    before = exchange[1].log
    with connect(f"{exchange[1].url}/twilio", compression=None, proxy=None) as stranger:
        stranger.send(f'{{"event": "start", "start": {start}}}')
        with pytest.raises(ConnectionClosedOK):
            stranger.recv(timeout=5)
    assert "Traceback" not in exchange[1].log.removeprefix(before)


def test_a_strangers_address_is_no_error_of_ours(exchange: Exchange) -> None:
    with (
        connect(f"{exchange[1].url}//[nobody?leg=%5B", compression=None, proxy=None) as stranger,
        pytest.raises(ConnectionClosedError) as closed,
    ):
        stranger.recv(timeout=5)
    assert closed.value.rcvd is not None and closed.value.rcvd.reason == "unknown"


def test_a_law_and_longer_pieces_are_heard_as_they_come() -> None:
    """Telnyx brings A-law where it cannot change it, and a carrier's pieces may be of 30 ms."""
    tone = (0.3 * np.sin(np.arange(240) / 4)).astype(np.float32)

    async def call() -> tuple[str, list[Sound]]:
        heard: list[Sound] = []

        async def take(connection: ServerConnection) -> None:
            leg = StreamLeg(connection, await started(connection, TELNYX), TELNYX)
            heard.extend([each async for each in leg if isinstance(each, Sound)])
            codecs.append(leg.codec)

        codecs: list[str] = []
        async with serve(take, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect_async(f"ws://127.0.0.1:{port}", proxy=None) as carrier:
                form = {"encoding": "PCMA", "sample_rate": 8000, "channels": 1}
                await carrier.send(json.dumps({"event": "start", "stream_id": "s", "start": {"media_format": form}}))
                for number in (1, 2, 3):
                    media = {"track": "inbound", "chunk": str(number)}
                    media["payload"] = base64.b64encode(PCMA.encode(tone)).decode()
                    await carrier.send(json.dumps({"event": "media", "stream_id": "s", "media": media}))
                await carrier.send(json.dumps({"event": "stop", "stream_id": "s"}))
                await asyncio.wait_for(carrier.wait_closed(), 5)
        return codecs[0], heard

    codec, heard = asyncio.run(call())
    assert codec == "PCMA" and [each.position for each in heard] == [240, 480, 720]
    assert np.abs(heard[0].piece - tone).max() < 0.02


# --- a carrier's API -------------------------------------------------------------------------------------------------
@at_each_carrier
def test_a_number_is_found_in_the_account_and_its_webhooks_are_set_once(
    exchange: Exchange, peer: CarrierProcess, acme: Tenant, alice: User, number_of: Connect
) -> None:
    first, agent = number_of("whistle")
    here = f"{exchange[2].url}/telephone/{peer.carrier}/voice/"
    assert peer.voice_url_of(NUMBER) == here != peer.voice_url_of(OTHER_NUMBER)
    of = {"carrier": peer.carrier, "agent": agent, "settings": {}, "hours": {}, "actor": alice}
    with enter_tenant(acme.id):
        second = numbers.add_number(number=OTHER_NUMBER, **of)
        assert peer.voice_url_of(OTHER_NUMBER) == here
        with pytest.raises(numbers.NotYourNumber, match=Carrier(peer.carrier).label):
            numbers.add_number(number="+14155550102", **of)
        for number in (first, second):
            numbers.remove_number(number=number, actor=alice)
    if peer.carrier != "telnyx":  # which knows no such request
        assert here not in (peer.voice_url_of(NUMBER), peer.voice_url_of(OTHER_NUMBER))


@at_each_carrier
def test_an_agent_calls_somebody_and_the_end_that_nobody_told_is_asked_about(
    peer: CarrierProcess, acme: Tenant, place: Any, placed: Callable[..., TelephoneLeg]
) -> None:
    leg = placed(steps=[{"hear": 0.3}, {"hang_up": True}])
    sid = peer.last_call()
    outbound.dial(tenant_id=str(acme.id), leg_id=str(leg.pk))  # as a broker may, again
    assert sid and sid == peer.last_call() and peer.end_of(sid)["loud_seconds"] > 0.3
    leg = final(acme, leg)
    assert (leg.direction, leg.status, leg.carrier_ref) == ("outbound", "completed", sid)
    assert leg.call is not None and leg.call.channel == "telephone" and leg.carrier_seconds
    with enter_tenant(acme.id):  # as if the callback had been lost
        longer_ago = leg.rang_at - datetime.timedelta(minutes=3)
        TelephoneLeg.objects.update(status="answered", ended_at=None, carrier_seconds=None, rang_at=longer_ago)
    sweeping.settle_leg(tenant_id=str(acme.id), leg_id=str(leg.pk))
    assert final(acme, leg).status == "completed"
    with enter_tenant(acme.id):
        account = CarrierAccount.objects.get()
        state = CARRIERS[peer.carrier].api.fetch_call(account, sid)
        assert (state.status, state.seconds, state.price_dollars) == (
            "completed",
            leg.carrier_seconds,
            Decimal("0.0085"),
        )


Answers = list[tuple[int, dict[str, Any]]]
UNKNOWN: tuple[int, dict[str, Any]] = (404, {"errors": []})
NOTHING, PRICED = ((200, {"status": "completed", "price": price, "price_unit": "USD"}) for price in ("0", "0.0085"))


@contextlib.contextmanager
def api_that_answers(answers: Answers) -> Iterator[str]:
    """Be an API that gives each answer once and then the last one for ever, and return its address."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("answers", "seconds", "tries_left", "entered"),
    [
        ([UNKNOWN, NOTHING, PRICED], 61, 6, PRICE),
        ([NOTHING], 61, 2, 0),
        ([UNKNOWN], 61, 2, 0),
        ([NOTHING, PRICED], 0, 6, 0),
    ],
    ids=["late", "nothing for ever", "never known", "nothing for no seconds"],
)
def test_a_price_that_is_not_settled_at_once_is_asked_for_again(
    acme: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    seconds: int,
    tries_left: int,
    entered: int,
) -> None:
    longer_ago = timezone.now() - datetime.timedelta(minutes=5)
    with enter_tenant(acme.id):
        CarrierAccount.objects.create(
            carrier="telnyx", account_ref=telnyx_stand_in.ACCOUNT, **telnyx_stand_in.CREDENTIALS
        )
        leg = TelephoneLeg.objects.create(
            carrier="telnyx", carrier_ref="c", our_number=NUMBER, ended_at=longer_ago, carrier_seconds=seconds
        )
    of = {"tenant_id": str(acme.id), "leg_id": str(leg.pk)}
    with api_that_answers(list(answers)) as url, structlog.testing.capture_logs() as logged:
        monkeypatch.setattr(settings, "TELNYX_URL", url)
        prices.enter_price.apply(kwargs=of, retries=prices.MOST_PRICE_TRIES - tries_left)
    entries = CostEntry.objects.filter(part="telephony")
    with enter_tenant(acme.id):
        assert sum(each.nano_dollars for each in entries) == entered
    is_given_up = any(each["event"] == "telephony.price_not_settled" for each in logged)
    assert is_given_up is (seconds > 0 and not entered)


@at_each_carrier
def test_machines_are_hung_up_on(peer: CarrierProcess, acme: Tenant, placed: Callable[..., TelephoneLeg]) -> None:
    leg = final(acme, placed(answered_by="machine_start"))
    assert leg.status == "completed" and leg.answered_by.startswith("machine") and leg.call_id is None


@at_each_carrier
@pytest.mark.parametrize(("said", "status"), [("busy", "busy"), ("no-answer", "no_answer"), ("canceled", "cancelled")])
def test_who_does_not_answer_is_written_down(
    acme: Tenant, placed: Callable[..., TelephoneLeg], said: str, status: str
) -> None:
    leg = final(acme, placed(status=said))
    assert leg.status == status and leg.answered_at is None


@at_each_carrier
def test_what_the_carrier_refuses_is_told_in_its_words(acme: Tenant, placed: Callable[..., TelephoneLeg]) -> None:
    leg = final(acme, placed(to="+12125550000"))
    assert leg.status == "failed" and "Invalid 'to'" in leg.problem.replace("'To'", "'to'")
