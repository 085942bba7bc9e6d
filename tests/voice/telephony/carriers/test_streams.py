"""The door at which carriers open a call's stream, and what comes through it."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.sync.client import connect

from tenants.models import Tenant
from tests.carriers.calls import Call
from tests.voice.telephony.carriers.each import at_each_carrier
from tests.voice.telephony.carriers.requests import post, ring
from tests.voice.telephony.conftest import Connect, Exchange
from tests.voice.telephony.legs import the_leg
from tests.voice.telephony.processes import CALLER, NUMBER, STAND_INS, CarrierProcess
from voice.telephony.carriers import CARRIERS
from voice.telephony.dialects import TELNYX
from voice.telephony.g711 import PCMA
from voice.telephony.legs import Sound
from voice.telephony.streams import StreamLeg, started


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
