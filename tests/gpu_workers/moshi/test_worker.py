"""The Moshi worker as a process: cold, and forked from a loaded parent; called by real clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode, Start, Utterance
from tests.gpu_workers.batch_workers import PLACES, batch_worker, two_forks, wait_until_empty
from tests.gpu_workers.callers import Caller
from tests.gpu_workers.worker_processes import ROOT
from voice.wav_caller import write_wav


@pytest.fixture(scope="module")
def port(moshi_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with batch_worker("moshi", moshi_folder, tmp_path_factory.mktemp("worker")) as port:
        yield port


def start(**fields: Any) -> Start:
    return Start(call_id="a-call", **fields)


@contextlib.asynccontextmanager
async def talking(port: int) -> AsyncIterator[Caller]:
    async with Caller.connected(port, start()) as caller:
        yield caller


async def test_a_caller_hears_sound_and_reads_words(port: int) -> None:
    async with talking(port) as caller:
        await caller.be_silent_until(lambda: len(caller.loud_audio()) > 20 and len(caller.text()) > 20)
        (boot,) = caller.metadata("boot")
        assert boot["boot"] == "cold" and boot["boot_ms"] > 0
        (turn,) = caller.metadata("turn")
        assert (turn["index"], turn["speech_ended_message"]) == (0, None)
        assert turn["reply_message"] in (0, 1)


async def test_several_callers_talk_at_once_and_one_too_many_is_refused_at_once(port: int) -> None:
    async with contextlib.AsyncExitStack() as calls:
        callers = [await calls.enter_async_context(talking(port)) for _ in range(PLACES)]
        began_at = time.monotonic()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await calls.enter_async_context(talking(port))
        assert refusal.value.status == 503
        assert time.monotonic() - began_at < 1
        await asyncio.gather(
            *(caller.be_silent_until(lambda caller=caller: len(caller.loud_audio()) > 20) for caller in callers)
        )
    await wait_until_empty(port)
    async with talking(port) as caller:
        await caller.be_silent_until(lambda: len(caller.loud_audio()) > 5)


async def test_a_caller_who_sends_nothing_or_reads_nothing_holds_nobody_up(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        deaf = await session.ws_connect(f"http://127.0.0.1:{port}/api/chat")
        async with talking(port), talking(port) as caller:
            await deaf.send_bytes(start().to_message())
            await caller.be_silent_until(lambda: len(caller.loud_audio()) > 40)
        await deaf.close()


async def test_a_flood_of_sound_slows_its_own_caller_only(port: int) -> None:
    async with talking(port) as flooding, talking(port) as caller:

        async def flood() -> None:
            import sphn

            writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
            for _ in range(1500):
                await flooding.socket.send_bytes(protocol.audio(writer.append_pcm(np.zeros(1920, np.float32))))

        sending = asyncio.create_task(flood())
        await caller.be_silent_until(lambda: len(caller.loud_audio()) > 40)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_moshi_says_that_it_cannot_go_on_from_before(port: int) -> None:
    async with Caller.connected(port, start(history=(Utterance("caller", "Hello."),))) as caller:
        await caller.be_silent_until(lambda: caller.metadata("warning"))
        assert caller.metadata("warning")[0]["code"] == "history_ignored"
        await caller.be_silent_until(caller.loud_audio)


async def test_what_is_no_sound_ends_the_call_with_a_sentence(port: int) -> None:
    async with talking(port) as caller:
        await caller.socket.send_bytes(protocol.audio(b"this is not Ogg Opus at all " * 40))
        assert await caller.wait_until_closed() == CloseCode.PROTOCOL_ERROR
        assert "Ogg Opus" in caller.errors()[0]


def test_moshis_own_client_talks_to_the_worker(port: int, tmp_path: Path) -> None:
    """`moshi.client` of the package `moshi`, with a stand-in for its sound card alone."""
    write_wav(tmp_path / "microphone.wav", np.sin(np.arange(24_000) / 30).astype(np.float32) / 4)
    sound_card = {
        "PYTHONPATH": str(ROOT / "tests" / "voice" / "sound_card"),
        "SOUND_CARD_PLAYS": str(tmp_path / "microphone.wav"),
        "SOUND_CARD_RECORDS": str(tmp_path / "heard.wav"),
    }
    said, log = tmp_path / "said.txt", tmp_path / "client.log"
    with said.open("wb") as out, log.open("wb") as errors:
        client = subprocess.Popen(
            [sys.executable, "-m", "moshi.client", "--url", f"http://127.0.0.1:{port}"],
            env={**os.environ, **sound_card},
            stdout=out,
            stderr=errors,
        )
    try:
        deadline = time.monotonic() + 90  # importing torch takes its time
        while said.stat().st_size < 20 or not is_loud(tmp_path / "heard.wav"):
            assert client.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    finally:
        client.kill()
        client.wait()


def is_loud(recording: Path) -> bool:
    """Return whether there is a sound in a file that is being written."""
    frames = recording.read_bytes()[44:] if recording.exists() else b""
    samples = np.frombuffer(frames[: len(frames) // 2 * 2], "<i2")
    return bool(len(samples) and np.abs(samples).max() > 3000)


async def test_two_forks_of_a_loaded_parent_differ_in_identity_and_chance(moshi_folder: Path, tmp_path: Path) -> None:
    said = []
    with two_forks("moshi", moshi_folder, tmp_path) as forks:
        for name, ready in zip(("one", "other"), forks, strict=True):
            async with talking(ready["port"]) as caller:
                await caller.be_silent_until(lambda caller=caller: len(caller.text()) > 30)
                (boot,) = caller.metadata("boot")
                assert (boot["container"], boot["boot"]) == (name, "restored")
                said.append(caller.text()[:30])
    assert said[0] != said[1]
