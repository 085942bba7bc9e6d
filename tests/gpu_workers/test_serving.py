"""The serving layer: admission, the order of messages, bad input, the pace of speech, the end."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import numpy as np
import pytest
import sphn

from gpu_workers import chat, protocol, tokens
from gpu_workers.protocol import CloseCode, Control, Kind, Start
from tests.gpu_workers.callers import FRAME_SAMPLES, Caller, serving
from tests.gpu_workers.scripted_engine import ScriptedEngine

KEY = bytes.fromhex("00112233445566778899aabbccddeeff")


def start(prompt: str = "listen") -> Start:
    return Start(call_id="call-1", agent={"prompt": prompt})


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(int(seconds * protocol.SAMPLE_RATE_HZ)) * 0.1)).astype(np.float32)


async def get_json(port: int, path: str) -> tuple[int, dict]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.json()


async def test_the_handshake_comes_first_and_the_boot_report_second() -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port, start()) as caller:
        await caller.wait_for(lambda: caller.metadata("boot"))
        assert [item.kind for item in caller.received] == [Kind.HANDSHAKE, Kind.METADATA]
        report = caller.metadata("boot")[0]
        assert (report["boot"], report["boot_ms"], report["container"]) == ("cold", 12.5, "in-test")
        assert report["ready_age_ms"] >= 0


async def test_the_engine_gets_the_start_message() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as (_, port), Caller.connected(port, start("listen")):
        assert engine.starts[0].call_id == "call-1"


async def test_a_caller_without_a_start_message_is_served_after_a_moment() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as (_, port), Caller.connected(port) as caller:
        await caller.wait_for(lambda: caller.received)
        assert caller.received[0].kind is Kind.HANDSHAKE
        assert engine.starts[0].agent == {}


async def test_a_gateways_start_message_may_take_its_time() -> None:
    engine = ScriptedEngine()
    headers = {tokens.HEADER: f"Bearer {tokens.sign_session(KEY, 's-1')}"}
    async with serving(engine, session_key=KEY) as (_, port), Caller.connected(port, headers=headers) as caller:
        await asyncio.sleep(2 * chat.ANONYMOUS_START_SECONDS)
        await caller.socket.send_bytes(start().to_message())
        await caller.wait_for(lambda: caller.received)
        assert engine.starts[0].call_id == "call-1"


async def test_a_gateway_that_sends_no_start_message_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "START_TIMEOUT_SECONDS", 0.2)
    headers = {tokens.HEADER: f"Bearer {tokens.sign_session(KEY, 's-1')}"}
    async with serving(ScriptedEngine(), session_key=KEY) as (_, port):
        async with Caller.connected(port, headers=headers) as caller:
            assert await caller.wait_until_closed() == CloseCode.PROTOCOL_ERROR
            assert caller.errors() == ["No start message came."]


async def test_audio_in_place_of_a_start_message_is_not_lost() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as (_, port), Caller.connected(port) as caller:
        await caller.send_audio(tone(0.2))
        await caller.wait_for(lambda: len(engine.heard_messages) == caller.sent_messages)
        assert engine.heard_messages == list(range(caller.sent_messages))


async def test_sound_goes_there_and_back() -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port, start("echo")) as caller:
        await caller.send_audio(tone(1))
        await caller.wait_for(lambda: len(caller.loud_audio()) >= 24)


async def test_speech_is_sent_hardly_faster_than_it_is_heard() -> None:
    async with serving(ScriptedEngine()) as (_, port):
        began_at = time.monotonic()
        async with Caller.connected(port, start("speak")) as caller:
            await caller.wait_for(lambda: len(caller.audio()) == 75)
            ahead = [index * 0.04 - (item.at - began_at) for index, item in enumerate(caller.audio())]
            assert 0.05 < max(ahead) < 0.2
            assert caller.audio()[-1].at - began_at > 2.7


async def test_a_second_caller_too_many_is_refused_at_once() -> None:
    async with serving(ScriptedEngine(), max_sessions=1) as (_, port), Caller.connected(port, start()):
        began_at = time.monotonic()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with Caller.connected(port, start()):
                pass
        assert refused.value.status == 503
        assert time.monotonic() - began_at < 1


async def test_a_place_is_free_again_when_its_caller_has_gone() -> None:
    async with serving(ScriptedEngine(), max_sessions=1) as (_, port):
        for _ in range(3):
            async with Caller.connected(port, start()):
                status, document = await get_json(port, "/status")
                assert status == 200
                assert len(document["sessions"]) == document["max_sessions"] == 1
            async with asyncio.timeout(5):
                while (await get_json(port, "/status"))[1]["sessions"]:
                    pass


async def test_a_bad_token_is_refused_and_a_good_one_names_the_session() -> None:
    async with serving(ScriptedEngine(), session_key=KEY) as (_, port):
        for header in ("", "Bearer nonsense", f"Bearer {tokens.sign_session(b'another key', 's-1')}"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with Caller.connected(port, start(), headers={tokens.HEADER: header}):
                    pass
            assert refused.value.status == 401
        good = {tokens.HEADER: f"Bearer {tokens.sign_session(KEY, 's-1')}"}
        async with Caller.connected(port, start(), headers=good):
            assert (await get_json(port, "/status"))[1]["sessions"][0]["id"] == "s-1"
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with Caller.connected(port, start(), headers=good):
                    pass
            assert refused.value.status == 409


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (protocol.audio(b"this is not Ogg " * 4), CloseCode.PROTOCOL_ERROR),
        (protocol.audio(b"OggS" + bytes(60)), CloseCode.PROTOCOL_ERROR),
        (b"", CloseCode.PROTOCOL_ERROR),
        (b"\x04{not json", CloseCode.PROTOCOL_ERROR),
        (b'\x04{"type":"wrap_up","seconds_left":"soon"}', CloseCode.PROTOCOL_ERROR),
        (protocol.audio(bytes(protocol.MAX_MESSAGE_BYTES + 1)), CloseCode.MESSAGE_TOO_BIG),
    ],
)
async def test_a_malformed_message_ends_its_session_with_a_code_and_no_other(message: bytes, code: CloseCode) -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port, start("echo")) as bystander:
        async with Caller.connected(port, start()) as caller:
            await caller.socket.send_bytes(message)
            assert await caller.wait_until_closed() == code
            if code is CloseCode.PROTOCOL_ERROR:
                assert len(caller.errors()) == 1
        await bystander.send_audio(tone(0.4))
        await bystander.wait_for(bystander.loud_audio)


async def test_much_sound_at_once_is_heard_and_a_flood_ends_the_session() -> None:
    engine = ScriptedEngine()
    writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
    ten_seconds = [
        b"".join(writer.append_pcm(frame) for frame in tone(10).reshape(-1, FRAME_SAMPLES)) for _ in range(8)
    ]
    assert len(ten_seconds[0]) > 8192
    async with serving(engine) as (_, port), Caller.connected(port, start()) as caller:
        for piece in ten_seconds[:2]:
            await caller.socket.send_bytes(protocol.audio(piece))
        await caller.wait_for(lambda: engine.heard_messages == [0, 1])
        for piece in ten_seconds[2:]:
            await caller.socket.send_bytes(protocol.audio(piece))
        assert await caller.wait_until_closed() == CloseCode.PROTOCOL_ERROR
        assert caller.errors() == ["Audio came far faster than it is spoken."]


async def test_a_text_frame_ends_the_session() -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port, start()) as caller:
        await caller.socket.send_str("hello")
        assert await caller.wait_until_closed() == CloseCode.UNSUPPORTED_DATA


async def test_a_start_message_of_the_wrong_form_is_told_so() -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port) as caller:
        await caller.socket.send_bytes(b'\x04{"type":"start"}')
        assert await caller.wait_until_closed() == CloseCode.PROTOCOL_ERROR
        assert "start message" in caller.errors()[0]


async def test_unknown_kinds_are_discarded_and_known_requests_arrive() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as (_, port), Caller.connected(port, start()) as caller:
        await caller.socket.send_bytes(b"\x63whatever")
        await caller.socket.send_bytes(protocol.text("callers do not send text"))
        await caller.socket.send_bytes(b"\x03\x63")
        await caller.socket.send_bytes(b'\x04{"type":"something newer"}')
        await caller.socket.send_bytes(protocol.metadata(protocol.wrap_up(seconds_left=15)))
        await caller.socket.send_bytes(protocol.control(Control.END_OF_TURN))
        await caller.wait_for(lambda: len(engine.events) == 2)
        assert [getattr(event, "seconds_left", event) for event in engine.events] == [15, Control.END_OF_TURN]


async def test_a_ping_is_answered() -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port, start()) as caller:
        await caller.socket.send_bytes(protocol.PING)
        await caller.wait_for(lambda: any(item.kind is Kind.PING for item in caller.received))


async def test_an_agent_that_hangs_up_ends_the_call_normally() -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port, start("hang up")) as caller:
        assert await caller.wait_until_closed() == CloseCode.NORMAL


async def test_an_engine_that_fails_ends_its_call_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(ScriptedEngine()) as (_, port), Caller.connected(port, start("fail")) as caller:
        assert await caller.wait_until_closed() == CloseCode.INTERNAL_ERROR
        assert caller.errors() == [CloseCode.INTERNAL_ERROR.reason]
        assert (await get_json(port, "/healthz"))[0] == 200


async def test_draining_refuses_new_calls_waits_for_old_ones_and_then_ends_them() -> None:
    async with serving(ScriptedEngine()) as (worker, port), Caller.connected(port, start()) as caller:
        draining = asyncio.create_task(worker.drain(grace_seconds=0.5))
        await asyncio.sleep(0)
        assert (await get_json(port, "/healthz"))[0] == 503
        assert (await get_json(port, "/status"))[1]["draining"] is True
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with Caller.connected(port, start()):
                pass
        assert refused.value.status == 503
        assert await caller.wait_until_closed() == CloseCode.GOING_AWAY
        await asyncio.wait_for(draining, timeout=5)


async def test_metrics_count_sessions_refusals_and_turn_parts() -> None:
    async with serving(ScriptedEngine(), session_key=KEY) as (_, port):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with Caller.connected(port, start()):
                pass
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
            text = await response.text()
    assert 'warmline_worker_sessions_refused_total{why="bad_token"} 1.0' in text
    assert 'warmline_worker_boot_seconds{boot="cold"} 0.0125' in text
    assert "warmline_worker_max_sessions 2.0" in text
