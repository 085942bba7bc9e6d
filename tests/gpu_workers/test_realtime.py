"""A conversation that OpenAI Realtime holds: Pipecat's own client, and a stand-in for the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gpu_workers import protocol
from gpu_workers.protocol import Start, ToolsEndpoint, Utterance
from tests.gpu_workers.callers import FRAME_SECONDS, Caller
from tests.gpu_workers.managed import ManagedWorker
from tests.gpu_workers.speech import speak
from tests.providers import KEY
from tests.realtime_provider import Trouble

GREETING = "Hello there, dear caller."
LONG = "We are open from nine to six on every day but Sunday and we would be glad to see you then."
SHORT = "We are open from nine to six."
OWN = "Of course, the market hall."
HOURS = "What are your opening hours?"
BOOK = {
    "name": "book_appointment",
    "description": "Book it.",
    "parameters": {"type": "object", "properties": {"service": {"type": "string"}}, "required": ["service"]},
}


def agent(*answers: str, **changes: Any) -> dict[str, Any]:
    """An agent whose stand-in answers so, and whose own brain knows other answers."""
    return {
        "name": "Front desk",
        "greeting": GREETING,
        "prompt": "\n".join(("You are kind.", *answers)),
        "facts": [{"question": HOURS, "answer": OWN}],
        "intents": [],
        "tools": [],
        "voice": "cedar",
        "goodbye": "Goodbye, and thank you.",
        **changes,
    }


def calling(managed: ManagedWorker, spoken: dict[str, Any], *, key: str = KEY, **start: Any) -> Any:
    return managed.caller(spoken, part="engine", provider="openai", key=key, **start)


async def said(caller: Caller, count: int, *, role: str = "agent") -> str:
    """Wait until so many things were said; return the last of them."""
    await caller.be_silent_until(lambda: len(caller.transcripts(role)) >= count, limit_seconds=25)
    return caller.transcripts(role)[count - 1]


async def test_it_is_told_who_to_be_greets_and_answers(managed: ManagedWorker) -> None:
    async with calling(managed, agent(f"ANSWER {SHORT}")) as caller:
        assert await said(caller, 1) == GREETING
        await caller.send_audio(speak(HOURS))
        assert await said(caller, 2) == SHORT
        assert caller.transcripts("caller") == ["What are your opening hours?"]
        greeting, turn = caller.metadata("turn")
        assert (greeting["index"], greeting["speech_ended_message"]) == (0, None)
        assert turn["index"] == 1 and turn["speech_ended_message"] is not None
        assert set(turn["parts_ms"]) == {"end_of_turn", "stt"}  # how long it thought and spoke is not known apart
        assert " ".join(caller.text().split()) == f"{GREETING} {SHORT}"
        assert not caller.metadata("warning")
        loud_seconds = len(caller.loud_audio()) * FRAME_SECONDS
        assert loud_seconds == pytest.approx((len(GREETING) + len(SHORT)) * 0.06, abs=0.5)
    told = next(event for event in managed.asked("openai") if f"ANSWER {SHORT}" in event.get("instructions", ""))
    assert told["voice"] == "cedar" and told["tools"] == ["end_call"]
    assert "You are kind." in told["instructions"] and OWN in told["instructions"]
    assert KEY not in managed.log()


async def test_it_hears_the_turns_of_the_caller_and_no_silence(managed: ManagedWorker) -> None:
    before = len(managed.asked("openai"))
    question = speak(HOURS)
    async with calling(managed, agent("ANSWER Nine.", "ANSWER Ten.")) as caller:
        await said(caller, 1)
        await caller.be_silent(2.0)
        for count in (2, 3):
            await caller.send_audio(question)
            await said(caller, count)
    heard = [event["heard_seconds"] for event in managed.asked("openai")[before:] if "heard_seconds" in event]
    seconds = len(question) / protocol.SAMPLE_RATE_HZ
    assert len(heard) == 2 and all(seconds - 0.3 < each < seconds + 2.0 for each in heard)


async def test_a_caller_who_speaks_stops_it_and_it_knows_what_was_heard(managed: ManagedWorker) -> None:
    before = len(managed.asked("openai"))
    async with calling(managed, agent(f"ANSWER {LONG}", "ANSWER Go ahead.")) as caller:
        await said(caller, 1)
        await caller.send_audio(speak(HOURS))
        await caller.be_silent_until(lambda: "every day" in caller.text())
        await caller.send_audio(speak("Wait a moment please, I have another question."))
        heard = await said(caller, 2)
        assert await said(caller, 3) == "Go ahead."
        cut_off, *_ = [each for each in caller.metadata("transcript") if each["interrupted"]]
        assert cut_off["text"] == heard
        spoken = " ".join(caller.text().split())
    assert LONG.startswith(heard) and "every day" in heard and len(heard) < len(LONG)
    assert spoken == f"{GREETING} {heard} Go ahead."
    (truncated,) = [event for event in managed.asked("openai")[before:] if "truncated_ms" in event]
    # What it is left with is what was sent: as much of its sound as the words are of its text.
    share = len(heard) / len(LONG)
    assert truncated["truncated_ms"] / 1000 == pytest.approx(share * len(LONG) * 0.06, abs=0.7)
    refused = {event["refused"] for event in managed.asked("openai")[before:] if "refused" in event}
    assert refused <= {"response_cancel_not_active"}  # all of it was made before it was heard


async def test_a_noise_that_breaks_it_off_makes_it_go_on(managed: ManagedWorker) -> None:
    async with calling(managed, agent(f"ANSWER {LONG}")) as caller:
        await said(caller, 1)
        await caller.send_audio(speak(HOURS))
        await caller.be_silent_until(lambda: "every day" in caller.text())
        await caller.send_audio(speak("Mm."))  # speech-like, and no words
        assert await said(caller, 3) == "And so on, as I said."
        assert len(caller.transcripts("caller")) == 1


@pytest.fixture
async def tools() -> AsyncIterator[tuple[ToolsEndpoint, list[dict[str, Any]]]]:
    """Tools that book whatever they are asked to, and what they were asked."""
    asked: list[dict[str, Any]] = []

    async def run(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer the-token"
        asked.append({"name": request.match_info["name"], **await request.json()})
        return web.json_response({"ok": True, "result": {"state": "booked"}})

    application = web.Application()
    application.add_routes([web.post("/tools/{name}", run)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield ToolsEndpoint(f"http://127.0.0.1:{runner.addresses[0][1]}/tools", "the-token"), asked
    await runner.cleanup()


async def test_its_tools_are_run_and_it_tells_what_came_of_them_and_hangs_up(
    managed: ManagedWorker, tools: tuple[ToolsEndpoint, list[dict[str, Any]]]
) -> None:
    endpoint, asked = tools
    wishes = 'CALL book_appointment {"service": "cut"}', "CALL fly_away", "CALL book_appointment {} + end_call"
    async with calling(managed, agent(*wishes, tools=[BOOK]), tools_endpoint=endpoint) as caller:
        await said(caller, 1)
        await caller.send_audio(speak("Please book a hair cut for me."))
        assert await said(caller, 2) == "The tool says state booked."
        await caller.send_audio(speak("Now do something else for me."))
        assert "there is no tool" in (await said(caller, 3)).lower()
        await caller.send_audio(speak("Thank you, that is all."))
        assert await said(caller, 4) == "Goodbye, and thank you."
        assert await caller.wait_until_closed() == protocol.CloseCode.NORMAL
    assert [(each["name"], each["arguments"], each["turn"]) for each in asked] == [
        ("book_appointment", {"service": "cut"}, 1),
        ("book_appointment", {}, 3),
    ]
    assert [(each["name"], each["ok"], each["turn"]) for each in caller.metadata("tool")] == [
        ("book_appointment", True, 1),
        ("fly_away", False, 2),
        ("book_appointment", True, 3),
    ]


async def test_a_call_that_is_nearly_over_is_closed_in_words(managed: ManagedWorker) -> None:
    async with calling(managed, agent()) as caller:
        await said(caller, 1)
        await caller.socket.send_bytes(protocol.metadata(protocol.wrap_up(seconds_left=10)))
        assert (await said(caller, 2)).endswith("our time is nearly up. Goodbye, and thank you.")
        assert await caller.wait_until_closed() == protocol.CloseCode.NORMAL
        assert not caller.metadata("warning")


async def test_it_goes_on_from_the_conversation_so_far(managed: ManagedWorker) -> None:
    history = (Utterance("agent", GREETING), Utterance("caller", "I would like to come on Tuesday."))
    async with calling(managed, agent("ANSWER marked for the hand-over."), history=history) as caller:
        assert (await said(caller, 1)).startswith("Sorry, I lost you for a moment.")
    told = next(event for event in managed.asked("openai") if "marked for the" in event.get("instructions", ""))
    assert "caller: I would like to come on Tuesday." in told["instructions"]


async def test_where_it_cannot_be_had_the_cascade_talks_by_itself(managed: ManagedWorker) -> None:
    async def converse(key: str) -> None:
        async with calling(managed, agent(), key=key) as caller:
            assert await said(caller, 1) == GREETING
            assert caller.loud_audio()
            await caller.send_audio(speak(HOURS))
            assert OWN in await said(caller, 2)
            (warning,) = caller.metadata("warning")
            assert warning["code"] == "engine" and "openai" in warning["sentence"]
        assert not key or key not in managed.log()

    speak(HOURS)  # before anybody waits for it
    await asyncio.gather(*map(converse, ("", "not-the-key", Trouble.BUSY, Trouble.NEVER_READY)))


async def test_a_turn_that_it_does_not_answer_the_cascade_answers_and_all_after_it(managed: ManagedWorker) -> None:
    async def converse(key: str) -> None:
        async with calling(managed, agent(), key=key) as caller:
            assert await said(caller, 1) == GREETING
            for count in (2, 3):
                await caller.send_audio(speak(HOURS))
                assert OWN in await said(caller, count)
            assert len(caller.metadata("warning")) == 1
            assert [turn["index"] for turn in caller.metadata("turn")] == [0, 1, 2]
            assert len(caller.transcripts("caller")) == 2

    speak(HOURS)
    await asyncio.gather(*map(converse, (Trouble.SILENT, Trouble.NO_CREDIT)))


async def test_one_that_breaks_off_in_a_sentence_leaves_what_was_heard(managed: ManagedWorker) -> None:
    async with calling(managed, agent(f"ANSWER {LONG}"), key=Trouble.BREAKS_OFF) as caller:
        await said(caller, 1)
        await caller.send_audio(speak(HOURS))
        spoken = await said(caller, 2)
        begun, _, rest = spoken.partition(" I am sorry, I lost my thread.")
        assert LONG.startswith(begun) and 0 < len(begun) < len(LONG) / 2 and rest
        (warning,) = caller.metadata("warning")
        assert warning["code"] == "engine"


async def test_a_voice_that_it_does_not_have_is_a_refusal(managed: ManagedWorker) -> None:
    async with calling(managed, agent(voice="heart")) as caller:
        assert await said(caller, 1) == GREETING
        assert json.dumps(caller.metadata("warning")).count("engine") == 1


async def test_a_service_that_nobody_knows_is_told(managed: ManagedWorker) -> None:
    async with managed.caller(agent(), part="engine", provider="nobody", key=KEY) as caller:
        assert await said(caller, 1) == GREETING
        (warning,) = caller.metadata("warning")
        assert warning["sentence"] == "The cascade talks by itself: there is no key for nobody."


def test_a_key_is_not_shown_where_a_start_is_printed() -> None:
    document = {"call_id": "c", "services": {"engine": {"provider": "openai", "key": KEY}}}
    assert KEY not in repr(Start.from_document(document))
