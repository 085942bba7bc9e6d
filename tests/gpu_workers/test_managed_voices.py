"""A cascade that speaks with managed services: Pipecat's own clients, and a stand-in for the providers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gpu_workers.managed import ManagedWorker
from tests.gpu_workers.speech import speak
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


def calling(managed: ManagedWorker, provider: str, *, key: str = KEY, voice: str = "voice-1") -> Any:
    return managed.caller({**AGENT, "voice": voice}, part="tts", provider=provider, key=key)


@pytest.mark.parametrize("provider", ["elevenlabs", "cartesia"])
async def test_a_managed_voice_speaks_and_the_transcript_has_its_words(managed: ManagedWorker, provider: str) -> None:
    async with calling(managed, provider, voice="voice-2") as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"))
        assert caller.transcripts("agent") == ["Hello there, dear caller."]
        assert caller.loud_audio()
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > 1, limit_seconds=30)
        assert caller.transcripts("agent")[1].startswith(SENTENCE)
        assert caller.metadata("turn")[1]["parts_ms"]["tts_ttfb"] > 0
        assert not caller.metadata("warning")
    asked = [event for event in managed.asked(provider) if event["voice"] == "voice-2"]
    assert SENTENCE in " ".join(event["text"] for event in asked)
    assert KEY not in managed.log()


@pytest.mark.parametrize("provider", ["elevenlabs", "cartesia"])
async def test_a_caller_who_speaks_stops_it_and_the_transcript_has_what_was_heard(
    managed: ManagedWorker, provider: str
) -> None:
    async with calling(managed, provider) as caller:
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
    managed: ManagedWorker, provider: str, key: str, voice: str
) -> None:
    async with calling(managed, provider, key=key, voice=voice) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"), limit_seconds=20)
        assert caller.transcripts("agent") == ["Hello there, dear caller."]
        assert caller.loud_audio()
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > 1, limit_seconds=30)
        (warning,) = caller.metadata("warning")
        assert warning["code"] == "tts" and provider in warning["sentence"]
    assert "not-the-key" not in managed.log()


async def test_one_that_breaks_off_in_a_sentence_leaves_what_was_heard(managed: ManagedWorker) -> None:
    async with calling(managed, "elevenlabs", voice="break-off") as caller:
        await caller.be_silent_until(lambda: caller.metadata("warning"), limit_seconds=20)
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(
            lambda: len(caller.metadata("turn")) > 1 and caller.transcripts("agent"), limit_seconds=20
        )
        greeting = [line["text"] for line in caller.metadata("transcript") if line["turn"] == 0]
        assert greeting in (["Hello"], [])  # a connection that breaks off takes with it what was not read
