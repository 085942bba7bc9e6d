"""A cascade that hears with a managed service: Pipecat's own client, and a stand-in for the provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_workers.protocol import Service, Start
from tests.gpu_workers.callers import Caller
from tests.gpu_workers.speech import speak
from tests.gpu_workers.worker_processes import cold_worker, process
from tests.providers import KEY, Ear

SENTENCE = "We are open from nine to six."
AGENT: dict[str, Any] = {
    "name": "Front desk",
    "greeting": "Hello there.",
    "facts": [{"question": "What are your opening hours?", "answer": SENTENCE}],
    "intents": [],
    "tools": [],
}
Hearing = tuple[int, Path]


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hearing]:
    """A CPU worker's port, and its log."""
    folder = tmp_path_factory.mktemp("managed")
    with process("tests.providers", log=folder / "providers.log") as providers:
        assert providers.stdout is not None
        where = {"WORKER_DEEPGRAM_URL": f"http://127.0.0.1:{int(providers.stdout.readline())}"}
        with cold_worker(folder / "worker.log", **where) as (ready, _):
            yield ready["port"], folder / "worker.log"


def connected(hearing: Hearing, *, key: str = KEY, provider: str = "deepgram") -> Any:
    return Caller.connected(hearing[0], Start(call_id="c", agent=AGENT, services={"stt": Service(provider, key)}))


async def ask(caller: Caller) -> str:
    """Say something, and return what was understood."""
    turns = len(caller.transcripts("caller"))
    await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > turns, limit_seconds=20)
    await caller.send_audio(speak("What are your opening hours?"))
    await caller.be_silent_until(lambda: len(caller.transcripts("caller")) > turns, limit_seconds=20)
    return caller.transcripts("caller")[-1]


async def test_each_turn_has_the_words_that_the_service_heard_in_it(hearing: Hearing) -> None:
    async with connected(hearing) as caller:
        assert [await ask(caller) for _ in range(2)] == ["When do you open, 1?", "When do you open, 2?"]
        await caller.be_silent_until(lambda: len(caller.transcripts("agent")) > 2, limit_seconds=20)
        assert caller.transcripts("agent")[1].startswith(SENTENCE)
        assert not caller.metadata("warning")
    assert KEY not in hearing[1].read_text()


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
    hearing: Hearing, provider: str, key: str, turns: int
) -> None:
    async with connected(hearing, key=key, provider=provider) as caller:
        for _ in range(turns):
            assert (await ask(caller)).lower().rstrip(".?") == "what are your opening hours"
        (warning,) = caller.metadata("warning")
        assert warning["code"] == "stt" and provider in warning["sentence"]
    log = hearing[1].read_text()
    assert not key or key not in log
