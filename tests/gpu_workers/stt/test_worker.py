"""The speech-to-text worker as a process: cold, and forked from a loaded parent; called by real clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import numpy as np
import pytest
import sphn

from gpu_workers.protocol import CloseCode
from gpu_workers.stt.transcription import UNTOLD_FRAMES
from tests.gpu_workers.batch_workers import PLACES, batch_worker, two_forks, wait_until_empty
from tests.gpu_workers.moshi.streams import sound
from tests.gpu_workers.moshi_server_clients import AtCapacity
from tests.gpu_workers.stt.clients import Client, audio, pack, unmute

DELAY_FRAMES = 7


@pytest.fixture(scope="module")
def port(stt_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with batch_worker("stt", stt_folder, tmp_path_factory.mktemp("worker")) as port:
        yield port


async def transcribe(client: Client, frames: list[np.ndarray]) -> None:
    """Send frames without waiting in between, and wait until each was told of."""
    before = len(client.of("Step"))
    for frame in frames:
        await client.send_audio(frame)
    await client.wait_for(lambda: len(client.of("Step")) == before + len(frames))


async def test_unmutes_client_reads_words_and_pause_predictions(port: int) -> None:
    async with unmute(port) as client:
        await transcribe(client, sound(5, 60))
        assert [step["step_idx"] for step in client.of("Step")] == list(range(1, 61))
        assert {len(step["prs"]) for step in client.of("Step")} == {4}
        assert all(0 <= probability <= 1 for step in client.of("Step") for probability in step["prs"])
        assert len(client.words()) > 3
        kinds = [message["type"] for message in client.received if message["type"] in ("Word", "EndWord")]
        assert "EndWord" in kinds and ("EndWord", "EndWord") not in itertools.pairwise(kinds)


async def test_how_sound_is_cut_into_messages_makes_no_difference(port: int) -> None:
    whole = np.concatenate(sound(5, 50))
    answers = []
    for size in (1920, 480, 1000, 24_000):
        async with unmute(port) as client:
            for at in range(0, len(whole), size):
                await client.send_audio(whole[at : at + size])
            await client.wait_for(lambda client=client: len(client.of("Step")) == 50)
            answers.append((client.words(), [step["prs"] for step in client.of("Step")]))
    assert answers[0][0]
    for words, pauses in answers[1:]:
        assert words == answers[0][0]
        assert np.abs(np.array(pauses) - np.array(answers[0][1])).max() < 1e-5


async def test_markers_come_back_in_order_once_their_sound_and_the_delay_have_passed(port: int) -> None:
    async with unmute(port) as client:
        await client.send_marker(-1)
        await client.send_audio(np.zeros(20 * 1920))
        await client.send_marker(2)
        await client.send_marker(2**62)
        await client.send_audio(np.zeros(100))
        await client.send_marker(4)
        await client.wait_for(lambda: len(client.of("Step")) == 20)
        assert [marker["id"] for marker in client.of("Marker")] == [-1]
        await client.send_audio(np.zeros(DELAY_FRAMES * 1920))
        await client.wait_for(lambda: len(client.of("Marker")) == 3)
        await client.send_audio(np.zeros(1820))
        await client.wait_for(lambda: len(client.of("Marker")) == 4)
    order = [message.get("id", message.get("step_idx")) for message in client.received]
    order = [each for each in order if each is not None]
    expected = [*range(1, 8), -1, *range(8, 28), 2, 2**62, 28, 4]
    assert order == expected


async def test_the_example_client_of_kyutai_gets_its_marker(port: int) -> None:
    """It sends whole seconds as fast as it can: silence, speech, silence, a marker, and then silence to the end."""
    async with unmute(port) as client:
        second = np.zeros(24_000)
        for part in (second, np.concatenate(sound(5, 25)), *[second] * 5):
            await client.send_audio(part)
        await client.send_marker(0)
        sending = asyncio.create_task(send_all(client, [second] * 35))
        await client.wait_for(lambda: client.of("Marker"), limit_seconds=60)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert client.words()


async def send_all(client: Client, parts: list[np.ndarray]) -> None:
    for part in parts:
        await client.send_audio(part)


async def test_several_clients_are_heard_in_real_time(port: int) -> None:
    frames = 40

    async def speak(client: Client, seed: int) -> float:
        """Speak at the pace of speech; return the median time from a frame to its step."""
        sent_at = []
        due_at = time.monotonic()
        for frame in sound(seed, frames):
            sent_at.append(time.monotonic())
            await client.send_audio(frame)
            due_at += 0.08
            await asyncio.sleep(max(0, due_at - time.monotonic()))
        await client.wait_for(lambda: len(client.step_at) == frames)
        return float(np.median(np.subtract(client.step_at, sent_at)))

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(unmute(port)) for _ in range(PLACES)]
        lags = await asyncio.gather(*(speak(client, seed) for seed, client in enumerate(clients)))
        assert max(lags) < 0.3
        assert len({str(client.words()) for client in clients}) == PLACES


async def test_a_client_too_many_is_refused_at_once_in_its_own_protocol(port: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(PLACES):
            await stack.enter_async_context(unmute(port))
        began_at = time.monotonic()
        with pytest.raises(AtCapacity, match="No free channels"):
            await stack.enter_async_context(unmute(port))
        assert time.monotonic() - began_at < 0.5  # Unmute's patience
        async with aiohttp.ClientSession() as session:
            late = await session.ws_connect(f"http://127.0.0.1:{port}/api/asr-streaming")
            assert msgpack.unpackb(await late.receive_bytes())["type"] == "Error"
            assert (await late.receive()).type is aiohttp.WSMsgType.CLOSE
            assert late.close_code == CloseCode.WORKER_AT_CAPACITY


async def test_a_client_that_disappears_leaves_its_place(port: int) -> None:
    for _ in range(2):
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(unmute(port)) for _ in range(PLACES)]
            for client in clients:
                await client.send_audio(np.zeros(10 * 1920))
                client.socket.transport.abort()
        await wait_until_empty(port)
    async with unmute(port) as client:
        await transcribe(client, sound(1, 5))


BAD: list[tuple[bytes | str, CloseCode, str]] = [
    ("hello", CloseCode.UNSUPPORTED_DATA, "must be binary"),
    (b"", CloseCode.PROTOCOL_ERROR, "not MessagePack"),
    (b"\x93\x01", CloseCode.PROTOCOL_ERROR, "not MessagePack"),
    (pack({"type": "Nonsense"}), CloseCode.PROTOCOL_ERROR, "not known"),
    (pack({"type": "Audio", "pcm": "loud"}), CloseCode.PROTOCOL_ERROR, "list of numbers"),
    (pack({"type": "Audio", "pcm": [float("nan")]}), CloseCode.PROTOCOL_ERROR, "not finite"),
    (pack({"type": "OggOpus", "data": b"this is not Ogg " * 40}), CloseCode.PROTOCOL_ERROR, "not Ogg Opus"),
    (audio(np.zeros(150_000)), CloseCode.MESSAGE_TOO_BIG, "send it in smaller parts"),
]


@pytest.mark.parametrize(("message", "code", "sentence"), BAD)
async def test_a_bad_message_ends_its_session_with_a_sentence_and_no_other(
    port: int, message: bytes | str, code: CloseCode, sentence: str
) -> None:
    async with unmute(port) as bystander, unmute(port) as client:
        await client.send_audio(np.zeros(2000))
        await client.socket.send(message)
        assert await client.wait_until_closed() == code
        await client.wait_for(lambda: client.of("Error"))
        assert sentence in client.of("Error")[0]["message"]
        await transcribe(bystander, sound(1, 5))


async def test_a_message_that_the_socket_does_not_take_ends_the_session(port: int) -> None:
    async with unmute(port) as client:
        await client.socket.send(audio(np.zeros(300_000)))
        assert await client.wait_until_closed() == CloseCode.MESSAGE_TOO_BIG


async def test_too_many_markers_end_the_session(port: int) -> None:
    async with unmute(port) as client:
        with contextlib.suppress(ConnectionError):
            for marker_id in range(1001):
                await client.send_marker(marker_id)
        assert await client.wait_until_closed() == CloseCode.PROTOCOL_ERROR
        assert "More than 1,000 markers" in client.of("Error")[0]["message"]


async def test_init_begins_anew(port: int) -> None:
    async with unmute(port) as client:
        await transcribe(client, sound(5, 50))
        await client.send_audio(np.zeros(700))
        first = client.received.copy()
        await client.socket.send(pack({"type": "Init"}))
        await client.wait_for(lambda: client.of("Ready"))
        client.received.clear()
        await transcribe(client, sound(5, 50))
        assert [message["type"] for message in client.received] == [message["type"] for message in first]
        assert client.of("Word") == [message for message in first if message["type"] == "Word"] != []


async def test_ogg_opus_is_heard_too(port: int) -> None:
    writer = sphn.OpusStreamWriter(24_000)
    async with unmute(port) as client:
        for frame in sound(5, 40):
            if packet := writer.append_pcm(frame):
                await client.socket.send(pack({"type": "OggOpus", "data": packet}))
        await client.wait_for(lambda: len(client.of("Step")) >= 35)


async def test_a_flood_slows_its_own_client_only(port: int) -> None:
    async with unmute(port) as flooding, unmute(port, is_reading=False) as deaf, unmute(port) as client:
        parts = [np.zeros(24_000)] * 400
        sending = [asyncio.create_task(send_all(each, parts)) for each in (flooding, deaf)]
        for frame in sound(1, 25):
            before = len(client.step_at)
            await client.send_audio(frame)
            await client.wait_for(lambda before=before: len(client.step_at) > before, limit_seconds=2)
        assert not any(task.done() for task in sending)
        buffered = [step["buffered_pcm"] for step in flooding.of("Step")]
        assert 0 < max(buffered) <= (UNTOLD_FRAMES + 1) * 1920
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        deaf.socket.transport.abort()
        flooding.socket.transport.abort()


async def test_forks_of_a_loaded_parent_serve_and_hear_the_same(stt_folder: Path, tmp_path: Path) -> None:
    heard: list[Any] = []
    with two_forks("stt", stt_folder, tmp_path) as forks:
        for name, ready in zip(("one", "other"), forks, strict=True):
            async with unmute(ready["port"]) as client:
                assert (client.boot["container"], client.boot["boot"]) == (name, "restored")
                await transcribe(client, sound(5, 50))
                heard.append(client.words())
    assert heard[0] == heard[1] != []
