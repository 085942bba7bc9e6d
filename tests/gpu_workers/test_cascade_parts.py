"""A cascade that hears and speaks with workers of other pools: real processes, and small random models that hear and
speak nonsense.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpu_workers.protocol import Part, Start
from gpu_workers.stt import tiny as stt_tiny
from gpu_workers.tts import tiny as tts_tiny
from tests.gpu_workers.callers import Caller
from tests.gpu_workers.speech import speak
from tests.gpu_workers.worker_processes import READY_SECONDS, process, read_line

AGENT: dict[str, Any] = {
    "name": "Front desk",
    "greeting": "Hello.",
    "facts": [{"question": "What are your opening hours?", "answer": "We are open from nine to six."}],
    "intents": [],
    "tools": [],
}


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """A speech-to-text worker that writes down nonsense."""
    folder = stt_tiny.write_checkpoint(tmp_path_factory.mktemp("stt"))
    arguments = ["--port", "0", "--max-sessions", "2", "--checkpoint", str(folder)]
    with process("gpu_workers", "stt", *arguments, log=folder / "stt.log", FRAME_BUDGET="1000") as running:
        assert running.stdout is not None
        port = read_line(running.stdout, limit_seconds=READY_SECONDS)["port"]
        yield Part(f"ws://127.0.0.1:{port}/api/asr-streaming")


@pytest.fixture(scope="module")
def mouth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """A text-to-speech worker whose sound means nothing."""
    folder = tts_tiny.write_checkpoint(tmp_path_factory.mktemp("tts"))
    arguments = ["--port", "0", "--max-sessions", "2", "--checkpoint", str(folder)]
    with process("gpu_workers", "tts", *arguments, log=folder / "tts.log", FRAME_BUDGET="1000") as running:
        assert running.stdout is not None
        port = read_line(running.stdout, limit_seconds=READY_SECONDS)["port"]
        yield Part(f"ws://127.0.0.1:{port}/api/tts_streaming")


async def test_what_another_worker_hears_is_the_callers_turn(worker: dict[str, Any], ears: Part) -> None:
    async with Caller.connected(worker["port"], Start(call_id="c", agent=AGENT, parts={"stt": ears})) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        (told,) = caller.metadata("part")
        assert (told["part"], told["boot"]) == ("stt", "cold") and told["boot_ms"] > 0
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: len(caller.metadata("turn")) > 1, limit_seconds=20)
        assert caller.metadata("turn")[1]["parts_ms"]["stt"] >= 0
        assert "nine to six" not in " ".join(caller.transcripts("agent"))  # the random model did not understand
        assert not caller.metadata("warning")


async def test_without_the_other_worker_the_cascade_hears_by_itself(worker: dict[str, Any]) -> None:
    nobody = Part("ws://127.0.0.1:9/api/asr-streaming")
    async with Caller.connected(worker["port"], Start(call_id="c", agent=AGENT, parts={"stt": nobody})) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        assert [warning["code"] for warning in caller.metadata("warning")] == ["stt"]
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: "nine to six" in " ".join(caller.transcripts("agent")), limit_seconds=20)


async def test_another_worker_speaks_what_the_agent_says(worker: dict[str, Any], mouth: Part) -> None:
    async with Caller.connected(worker["port"], Start(call_id="c", agent=AGENT, parts={"tts": mouth})) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        assert caller.transcripts("agent") == ["Hello."]
        (told,) = caller.metadata("part")
        assert (told["part"], told["boot"]) == ("tts", "cold") and told["boot_ms"] > 0
        assert caller.loud_audio()
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: "nine to six" in " ".join(caller.transcripts("agent")), limit_seconds=20)
        assert caller.metadata("turn")[1]["parts_ms"]["tts_ttfb"] > 0
        assert not caller.metadata("warning")


async def test_a_caller_who_speaks_stops_the_other_worker_and_reads_what_was_said(
    worker: dict[str, Any], mouth: Part
) -> None:
    agent = {**AGENT, "greeting": "Hello, and welcome. " + "This greeting goes on for longer than anybody likes. " * 6}
    async with Caller.connected(worker["port"], Start(call_id="c", agent=agent, parts={"tts": mouth})) as caller:
        await caller.be_silent_until(lambda: len(caller.loud_audio()) > 50)
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: "nine to six" in " ".join(caller.transcripts("agent")), limit_seconds=20)
        (greeting, *_) = caller.metadata("transcript")
        assert greeting["role"] == "agent" and greeting["interrupted"]
        assert greeting["text"].startswith("Hello, and")
        assert len(greeting["text"]) < len(agent["greeting"]) / 2


async def test_without_the_other_worker_the_cascade_speaks_by_itself(worker: dict[str, Any]) -> None:
    nobody = Part("ws://127.0.0.1:9/api/tts_streaming")
    async with Caller.connected(worker["port"], Start(call_id="c", agent=AGENT, parts={"tts": nobody})) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        assert caller.transcripts("agent") == ["Hello."]
        assert caller.loud_audio()
        assert [warning["code"] for warning in caller.metadata("warning")] == ["tts"]


async def test_without_the_language_model_the_agent_follows_its_questions(worker: dict[str, Any]) -> None:
    nobody = Part("http://127.0.0.1:9/v1/chat/completions")
    async with Caller.connected(worker["port"], Start(call_id="c", agent=AGENT, parts={"llm": nobody})) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        assert [warning["code"] for warning in caller.metadata("warning")] == ["llm"]
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: "nine to six" in " ".join(caller.transcripts("agent")), limit_seconds=20)
