"""The text-to-speech worker as a process: cold, and forked from a loaded parent; called by real clients."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import sphn
import websockets

from gpu_workers.protocol import CloseCode
from gpu_workers.tts.tiny import VOICE_DIMENSION, VOICE_FRAMES
from tests.gpu_workers.batch_workers import PLACES, batch_worker, two_forks, wait_until_empty
from tests.gpu_workers.moshi_server_clients import AtCapacity
from tests.gpu_workers.tts.clients import Client, unmute

TEXT = "We are open from nine to six."


@pytest.fixture(scope="module")
def port(tts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with batch_worker("tts", tts_folder, tmp_path_factory.mktemp("worker")) as port:
        yield port


async def say(client: Client, text: str) -> None:
    await client.say(text)
    await client.send(type="Eos")
    assert await client.receive() == CloseCode.NORMAL


async def test_unmutes_client_hears_a_text_and_reads_its_words(port: int) -> None:
    async with unmute(port) as client:
        await say(client, TEXT)
    assert client.words() == TEXT.split()
    assert client.boot["boot"] == "cold" and client.boot["boot_ms"] > 0
    assert len(client.sound()) / 24_000 >= client.of("Text")[-1]["stop_s"]
    assert np.abs(client.sound()).max() > 0.05
    assert {len(message["pcm"]) for message in client.of("Audio")} == {1_920}


async def test_sound_comes_while_words_are_still_being_written(port: int) -> None:
    async with unmute(port) as client:
        await client.say("We are open on every day of the week but not")
        await client.receive_one("Audio")
        await client.say("on holidays.")
        await client.send(type="Eos")
        assert await client.receive() == CloseCode.NORMAL
    assert client.words() == "We are open on every day of the week but not on holidays.".split()


@pytest.mark.parametrize("form", ["OggOpus", "OggOpusMessagePack", "Pcm"])
async def test_the_other_forms_carry_the_same_sound(port: int, form: str) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{port}/api/tts_streaming?format={form}") as socket:
        await socket.send(msgpack.packb({"type": "Text", "text": TEXT}))
        await socket.send(msgpack.packb({"type": "Eos"}))
        messages = [bytes(message) async for message in socket]
    if form == "OggOpusMessagePack":
        documents = [msgpack.unpackb(message) for message in messages]
        assert documents[0]["type"] == "Ready" and {"Text", "OggOpus"} <= {each["type"] for each in documents}
        messages = [each["data"] for each in documents if each["type"] == "OggOpus"]
    if form == "Pcm":
        samples = np.frombuffer(b"".join(messages), "<f4")
    else:
        reader = sphn.OpusStreamReader(24_000)
        samples = np.concatenate([np.asarray(reader.append_bytes(message)) for message in messages])
    assert len(samples) > 24_000 and np.abs(samples).max() > 0.05


async def test_several_clients_are_spoken_to_at_once_and_one_too_many_is_refused(port: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(unmute(port, voice="bright")) for _ in range(PLACES)]
        began_at = time.monotonic()
        with pytest.raises(AtCapacity, match="No free channels"):
            await stack.enter_async_context(unmute(port))
        assert time.monotonic() - began_at < 0.5  # Unmute's patience
        await asyncio.gather(*(say(client, f"Caller {number}, please hold.") for number, client in enumerate(clients)))
        assert [client.words()[1] for client in clients] == ["0,", "1,", "2,"]


async def test_a_voice_may_be_sent_and_must_fit(port: int) -> None:
    size = VOICE_DIMENSION * VOICE_FRAMES
    async with unmute(port) as client:
        await client.send(type="Voice", embeddings=[0.5] * size, shape=[1, VOICE_DIMENSION, VOICE_FRAMES])
        await say(client, TEXT)
        assert client.words() == TEXT.split()
    async with unmute(port) as client:
        await client.send(type="Voice", embeddings=[0.5] * size, shape=[1, VOICE_FRAMES, VOICE_DIMENSION])
        assert await client.receive() == CloseCode.PROTOCOL_ERROR
        assert "does not fit" in client.of("Error")[0]["message"]


async def test_nothing_to_say_ends_the_session(port: int) -> None:
    async with unmute(port) as client:
        await client.say("  ")
        await client.send(type="Eos")
        assert await client.receive() == CloseCode.NORMAL
        assert client.received == []


async def test_a_client_that_disappears_leaves_its_place(port: int) -> None:
    for _ in range(2):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(PLACES):
                client = await stack.enter_async_context(unmute(port))
                await client.say(TEXT)
                client.socket.transport.abort()
        await wait_until_empty(port)
    async with unmute(port) as client:
        await say(client, TEXT)


BAD: list[tuple[bytes | str, CloseCode, str]] = [
    ("hello", CloseCode.UNSUPPORTED_DATA, "must be binary"),
    (b"\x93\x01", CloseCode.PROTOCOL_ERROR, "not MessagePack"),
    (msgpack.packb({"type": "Nonsense"}), CloseCode.PROTOCOL_ERROR, "not known"),
    (msgpack.packb({"type": "Text", "text": "a b " * 4_900}), CloseCode.PROTOCOL_ERROR, "More than 5,000 words"),
    (msgpack.packb({"type": "Text", "text": "a" * 600_000}), CloseCode.MESSAGE_TOO_BIG, "smaller parts"),
    (msgpack.packb({"type": "Voice", "embeddings": [], "shape": [0]}), CloseCode.PROTOCOL_ERROR, "list of sizes"),
]


@pytest.mark.parametrize(("message", "code", "sentence"), BAD)
async def test_a_bad_message_ends_its_session_with_a_sentence_and_no_other(
    port: int, message: bytes | str, code: CloseCode, sentence: str
) -> None:
    async with unmute(port) as bystander, unmute(port) as client:
        await client.socket.send(message)
        assert await client.receive() == code
        assert sentence in client.of("Error")[0]["message"]
        await say(bystander, TEXT)
        assert bystander.words() == TEXT.split()


async def test_text_after_the_end_and_a_voice_after_the_first_text_are_refused(port: int) -> None:
    async with unmute(port) as client:
        await client.say(TEXT * 20)
        await client.send(type="Voice", embeddings=[0.5], shape=[1])
        assert await client.receive() == CloseCode.PROTOCOL_ERROR
        assert "before the first text" in client.of("Error")[0]["message"]
    async with unmute(port) as client:
        await client.say(TEXT * 20)
        await client.send(type="Eos")
        await client.say(TEXT)
        assert await client.receive() == CloseCode.PROTOCOL_ERROR
        assert "after Eos" in client.of("Error")[0]["message"]


async def test_an_unknown_form_is_refused_with_a_sentence(port: int) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{port}/api/tts_streaming?format=Mp3") as socket:
        assert "'Mp3' is not known" in msgpack.unpackb(await socket.recv())["message"]


async def test_forks_of_a_loaded_parent_serve_and_differ_in_chance(tts_folder: Path, tmp_path: Path) -> None:
    heard: list[Any] = []
    with two_forks("tts", tts_folder, tmp_path) as forks:
        for name, ready in zip(("one", "other"), forks, strict=True):
            async with unmute(ready["port"]) as client:
                assert (client.boot["container"], client.boot["boot"]) == (name, "restored")
                await say(client, TEXT)
                heard.append(client.sound())
    length = min(map(len, heard))
    assert np.abs(heard[0][:length] - heard[1][:length]).max() > 1e-3
