"""A cascade that speaks with managed services: Pipecat's own clients, and a stand-in for the providers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_workers.protocol import Service, Start
from tests.gpu_workers.callers import Caller
from tests.gpu_workers.speech import speak
from tests.gpu_workers.worker_processes import cold_worker, process
from tests.providers import KEY

SENTENCE = "We are open from nine to six on every day but Sunday and we would be glad to see you then."
AGENT: dict[str, Any] = {
    "name": "Front desk",
    "greeting": "Hello there, dear caller.",
    "facts": [{"question": "What are your opening hours?", "answer": SENTENCE}],
    "intents": [],
    "tools": [],
    "voice": "voice-1",
}


class Speaking:
    """A CPU worker that knows where the stand-in is, and what that one was asked."""

    def __init__(self, port: int, log: Path, worker_log: Path) -> None:
        self.port, self._log, self._worker_log = port, log, worker_log

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def worker_log(self) -> str:
        return self._worker_log.read_text()

    def caller(self, provider: str, *, key: str = KEY, voice: str = "voice-1") -> Any:
        services = {"tts": Service(provider, key)}
        return Caller.connected(self.port, Start(call_id="c", agent={**AGENT, "voice": voice}, services=services))


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaking]:
    folder = tmp_path_factory.mktemp("managed")
    with process("tests.providers", "--log", str(folder / "asked.log"), log=folder / "providers.log") as providers:
        assert providers.stdout is not None
        address = f"http://127.0.0.1:{int(providers.stdout.readline())}"
        where = {"WORKER_ELEVENLABS_URL": address, "WORKER_CARTESIA_URL": address}
        with cold_worker(folder / "worker.log", **where) as (ready, _):
            yield Speaking(ready["port"], folder / "asked.log", folder / "worker.log")


@pytest.mark.parametrize("provider", ["elevenlabs", "cartesia"])
async def test_a_managed_voice_speaks_and_the_transcript_has_its_words(speaking: Speaking, provider: str) -> None:
    async with speaking.caller(provider, voice="voice-2") as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        assert caller.transcripts("agent") == ["Hello there, dear caller."]
        assert caller.loud_audio()
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > 1, limit_seconds=30)
        assert caller.transcripts("agent")[1].startswith(SENTENCE)
        assert caller.metadata("turn")[1]["parts_ms"]["tts_ttfb"] > 0
        assert not caller.metadata("warning")
    asked = [event for event in speaking.said() if (event["provider"], event["voice"]) == (provider, "voice-2")]
    assert SENTENCE in " ".join(event["text"] for event in asked)
    assert KEY not in speaking.worker_log()


@pytest.mark.parametrize("provider", ["elevenlabs", "cartesia"])
async def test_a_caller_who_speaks_stops_it_and_the_transcript_has_what_was_heard(
    speaking: Speaking, provider: str
) -> None:
    async with speaking.caller(provider) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: len(caller.metadata("turn")) > 1, limit_seconds=20)
        await caller.send_audio(speak("Wait a moment please, I have another question."))
        await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > 1, limit_seconds=20)
        heard = caller.transcripts("agent")[1]
        assert SENTENCE.startswith(heard) and len(heard) < len(SENTENCE)


@pytest.mark.parametrize(
    ("provider", "key", "voice"),
    [
        ("elevenlabs", "not-the-key", "voice-1"),
        ("cartesia", "not-the-key", "voice-1"),
        ("elevenlabs", KEY, "stall"),
        ("cartesia", KEY, "stall"),
        ("elevenlabs", "", "voice-1"),
        ("nobody", KEY, "voice-1"),
    ],
)
async def test_where_it_does_not_speak_the_cascades_own_voice_does(
    speaking: Speaking, provider: str, key: str, voice: str
) -> None:
    async with speaking.caller(provider, key=key, voice=voice) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"), limit_seconds=20)
        assert caller.transcripts("agent") == ["Hello there, dear caller."]
        assert caller.loud_audio()
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > 1, limit_seconds=30)
        (warning,) = caller.metadata("warning")
        assert warning["code"] == "tts" and provider in warning["sentence"]
    assert "not-the-key" not in speaking.worker_log()


async def test_one_that_breaks_off_in_a_sentence_leaves_what_was_heard(speaking: Speaking) -> None:
    async with speaking.caller("elevenlabs", voice="break-off") as caller:
        await caller.be_silent_until(lambda: caller.metadata("warning"), limit_seconds=20)
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(
            lambda: len(caller.metadata("turn")) > 1 and caller.transcripts("agent"), limit_seconds=20
        )
        assert caller.transcripts("agent")[0] in ("Hello", "")
