"""A cascade that hears with a managed service: Pipecat's own client, and a stand-in for the provider."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gpu_workers.callers import Caller
from tests.gpu_workers.managed import ManagedWorker
from tests.gpu_workers.speech import speak
from tests.providers import KEY, Ear

SENTENCE = "We are open from nine to six."
AGENT: dict[str, Any] = {
    "name": "Front desk",
    "greeting": "Hello there.",
    "facts": [{"question": "What are your opening hours?", "answer": SENTENCE}],
    "intents": [],
    "tools": [],
}


def calling(managed: ManagedWorker, *, key: str = KEY, provider: str = "deepgram") -> Any:
    return managed.caller(AGENT, part="stt", provider=provider, key=key)


async def ask(caller: Caller) -> str:
    """Say something, and return what was understood."""
    turns = len(caller.transcripts("caller"))
    await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > turns, limit_seconds=20)
    await caller.send_audio(speak("What are your opening hours?"))
    await caller.be_silent_until(lambda: len(caller.transcripts("caller")) > turns, limit_seconds=20)
    return caller.transcripts("caller")[-1]


async def test_each_turn_has_the_words_that_the_service_heard_in_it(managed: ManagedWorker) -> None:
    async with calling(managed) as caller:
        assert [await ask(caller) for _ in range(2)] == ["When do you open, 1?", "When do you open, 2?"]
        await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > 2, limit_seconds=20)
        assert caller.transcripts("agent")[1].startswith(SENTENCE)
        assert not caller.metadata("warning")
    assert KEY not in managed.log()


@pytest.mark.parametrize(
    ("provider", "key", "turns"),
    [
        ("deepgram", "not-the-key", 1),
        ("deepgram", "", 1),
        ("nobody", KEY, 1),
        ("deepgram", Ear.BUSY, 1),
        ("deepgram", Ear.SILENT, 1),
        ("deepgram", Ear.LATE, 2),
        ("deepgram", Ear.BREAKS_OFF, 2),
    ],
)
async def test_what_the_service_does_not_hear_in_time_the_cascades_own_ears_do(
    managed: ManagedWorker, provider: str, key: str, turns: int
) -> None:
    async with calling(managed, key=key, provider=provider) as caller:
        for _ in range(turns):
            assert (await ask(caller)).lower().rstrip(".?") == "what are your opening hours"
        (warning,) = caller.metadata("warning")
        assert warning["code"] == "stt" and provider in warning["sentence"]
    log = managed.log()
    assert not key or key not in log
