"""Conversations with the real worker: its own process, its models, a socket, Ogg Opus, in real time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from gpu_workers import protocol
from gpu_workers.protocol import CallersLine, CloseCode, Control, Start, Utterance
from tests.gpu_workers.callers import FRAME_SECONDS, Caller
from tests.gpu_workers.speech import seconds, speak

SALON = {
    "name": "Front desk",
    "greeting": "Thanks for calling Shear Joy. How can I help?",
    "facts": [
        {
            "question": "What are your opening hours?",
            "also": ["When are you open?"],
            "answer": "We are open from Tuesday to Saturday, and we take the last customers at half past five.",
        },
        {"question": "Where are you?", "answer": "You find us in the old market hall, on the second floor."},
    ],
    "intents": [],
    "tools": [],
    "goodbye": "Thank you for calling. Goodbye.",
}


def start(**changes: Any) -> Start:
    return Start(call_id="call-1", agent=SALON, business={"name": "Shear Joy", "time_zone": "Europe/London"}, **changes)


async def greeted(caller: Caller) -> None:
    await caller.be_silent_until(lambda: caller.transcripts("agent"))


async def answered(caller: Caller, turns: int = 1) -> None:
    """Wait, silently, until so many replies to the caller were spoken to their end."""
    await caller.be_silent_until(lambda: len(caller.transcripts("agent")) >= turns + 1)


async def test_a_caller_is_greeted_asks_and_is_answered(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        assert caller.transcripts("agent") == [SALON["greeting"]]
        await caller.send_audio(speak("What are your opening hours?"))
        speech_ended_at = time.monotonic()
        await answered(caller)

        assert "opening hours" in caller.transcripts("caller")[0].lower()
        assert "Tuesday to Saturday" in caller.transcripts("agent")[1]
        assert "Tuesday to Saturday" in caller.text()
        reply = caller.loud_audio(since=speech_ended_at)
        assert len(reply) * FRAME_SECONDS > 2
        assert reply[0].at - speech_ended_at < 1.4


async def test_a_turn_names_its_messages_and_its_parts(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        silent_messages = caller.sent_messages
        question = speak("Where are you?")
        await caller.send_audio(question)
        await answered(caller)

        greeting, turn = caller.metadata("turn")
        assert (greeting["index"], greeting["speech_ended_message"], greeting["reply_message"]) == (0, None, 0)
        assert turn["index"] == 1
        spoken_messages = seconds(question) / FRAME_SECONDS
        assert silent_messages < turn["speech_ended_message"] <= silent_messages + spoken_messages + 1
        kinds = [item.payload for item in caller.received]
        first_reply = caller.audio()[turn["reply_message"]]
        reported = next(item for item in caller.received if b'"index":1' in item.payload)
        assert kinds.index(reported.payload) == caller.received.index(first_reply) + 1

        parts = turn["parts_ms"]
        assert set(parts) == {"end_of_turn", "stt", "llm_ttft", "tts_ttfb"}
        assert all(value >= 0 for value in parts.values())
        assert 440 <= parts["end_of_turn"] < 700
        assert sum(parts.values()) < 1400


async def test_a_caller_who_says_that_the_turn_is_over_is_answered_without_waiting(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        # A sentence that sounds unfinished, and speech that goes on to the last moment.
        await caller.send_audio(speak("What are your opening hours on a")[: -int(0.2 * protocol.SAMPLE_RATE_HZ)])
        await caller.socket.send_bytes(protocol.control(Control.END_OF_TURN))
        await answered(caller)
        assert len(caller.transcripts("caller")) == 1
        assert caller.metadata("turn")[1]["parts_ms"]["end_of_turn"] < 300


async def test_a_pause_inside_a_sentence_does_not_end_the_turn(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        words = speak("What are your")[: -int(0.2 * protocol.SAMPLE_RATE_HZ)]
        await caller.send_audio(words)
        await caller.be_silent(0.22)  # longer than a pause, and well below the end of a turn
        await caller.send_audio(speak("opening hours?"))
        await answered(caller)
        assert len(caller.transcripts("caller")) == 1
        assert "opening hours" in caller.transcripts("caller")[0].lower()


async def test_speaking_stops_the_agent_and_the_transcript_holds_what_was_spoken(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        await caller.send_audio(speak("What are your opening hours?"))
        await caller.be_silent_until(lambda: "Tuesday" in caller.text())

        began_at = time.monotonic()
        await caller.send_audio(speak("Where are you?"))
        await answered(caller, turns=2)

        interrupted = caller.metadata("transcript")[2]
        assert interrupted["interrupted"] is True
        full = SALON["facts"][0]["answer"]
        assert full.startswith(interrupted["text"])
        assert len(interrupted["text"]) < len(full)
        # Speech is detected after 0.13 s; not more than the lead and a frame or two come after that.
        until = next(later.at for later in caller.loud_audio(since=began_at + 0.7))
        stray = [item for item in caller.loud_audio(since=began_at) if item.at < until]
        assert stray[-1].at - began_at < 0.5
        assert "second floor" in caller.transcripts("agent")[-1]


async def test_a_client_that_sends_nothing_when_silent_is_understood(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await caller.wait_for(lambda: caller.transcripts("agent"))
        await caller.send_audio(speak("Where are you?"))
        await caller.wait_for(lambda: len(caller.transcripts("agent")) == 2, limit_seconds=15)
        assert "market hall" in caller.transcripts("agent")[1]


async def test_the_agent_says_goodbye_and_hangs_up_when_it_was_heard(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        await caller.send_audio(speak("Thank you, goodbye."))
        await caller.be_silent_until(lambda: "Goodbye." in caller.text())
        assert await caller.wait_until_closed() == CloseCode.NORMAL
        assert caller.transcripts("agent")[-1] == SALON["goodbye"]
        assert len(caller.loud_audio()[-1:]) == 1


async def test_the_agent_closes_in_words_when_told_that_time_is_up(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        await caller.socket.send_bytes(protocol.metadata(protocol.wrap_up(seconds_left=15)))
        await caller.be_silent_until(lambda: "Goodbye." in caller.text())
        assert await caller.wait_until_closed() == CloseCode.NORMAL


async def test_what_is_keyed_in_interrupts_the_agent_and_is_answered_at_the_hash_key(worker: dict[str, Any]) -> None:
    call_back = {
        "name": "call_back",
        "examples": ["Please call me back", "I want a call back"],
        "questions": [
            {"name": "phone", "type": "phone", "ask": "Which number can we reach you on? Please say all ten digits."}
        ],
        "done": "We will call you on {phone}.",
    }
    told = Start("call-1", agent={**SALON, "intents": [call_back]}, line=CallersLine(has_keypad=True))
    async with Caller.connected(worker["port"], told) as caller:
        await greeted(caller)
        await caller.send_audio(speak("Please call me back."))
        await caller.be_silent_until(lambda: caller.metadata("turn")[1:])
        await caller.be_silent(0.6)
        for digit in "4155550123#":
            await caller.socket.send_bytes(protocol.keys(digit))
        await answered(caller, 2)
        assert caller.transcripts("caller")[1] == "(keyed) 4155550123#"
        question, reply = caller.metadata("transcript")[2], caller.transcripts("agent")[-1]
        assert question["role"] == "agent" and question["interrupted"]
        assert "four one five, five five five, zero one two three" in reply


async def test_a_conversation_that_was_begun_elsewhere_goes_on(worker: dict[str, Any]) -> None:
    history = (Utterance("agent", SALON["greeting"]), Utterance("caller", "Where are you?"))
    async with Caller.connected(worker["port"], start(history=history)) as caller:
        await greeted(caller)
        assert SALON["greeting"] not in caller.transcripts("agent")[0]


async def test_moshis_own_client_that_sends_no_start_is_greeted(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"]) as caller:
        await greeted(caller)
        assert caller.loud_audio()


async def test_a_cough_does_not_make_the_agent_forget_its_sentence(worker: dict[str, Any]) -> None:
    """Speech-like sound without words: the reply is taken up again from the sentence that was broken off."""
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        hum = speak("Hmm hmm hmm hmm.") * 0.5
        await caller.send_audio(speak("Where are you?"))
        await caller.be_silent_until(lambda: "You find" in caller.text())
        await caller.send_audio(hum)
        await caller.be_silent_until(lambda: "second floor" in caller.text() or len(caller.transcripts("caller")) > 1)


async def test_four_callers_at_once_are_each_given_their_own_answer(worker: dict[str, Any]) -> None:
    """How fast is measured by the benchmark, on a machine that does nothing else."""
    hours, place = "What are your opening hours?", "Where are you?"
    speech = {question: speak(question) for question in (hours, place)}

    async def converse(questions: list[str]) -> list[str]:
        async with Caller.connected(worker["port"], start()) as caller:
            await greeted(caller)
            for turn, question in enumerate(questions, start=1):
                await caller.send_audio(speech[question])
                await answered(caller, turns=turn)
            return caller.transcripts("agent")[1:]

    orders = [[hours, place], [place, hours], [hours, place], [place, hours]]
    for order, answers in zip(orders, await asyncio.gather(*map(converse, orders)), strict=True):
        for question, answer in zip(order, answers, strict=True):
            assert ("Saturday" if question == hours else "market hall") in answer


async def test_noise_gets_no_answer(worker: dict[str, Any]) -> None:
    async with Caller.connected(worker["port"], start()) as caller:
        await greeted(caller)
        noise = np.random.default_rng(1).normal(0, 0.02, 2 * protocol.SAMPLE_RATE_HZ)
        await caller.send_audio(noise.astype(np.float32))
        await caller.be_silent(1)
        assert caller.transcripts("caller") == []


@pytest.mark.parametrize("piece", [b"not Ogg Opus at all, but long enough to be looked at", b"OggS" + bytes(100)])
async def test_malformed_audio_ends_one_call_and_not_the_others(worker: dict[str, Any], piece: bytes) -> None:
    async with Caller.connected(worker["port"], start()) as bystander:
        async with Caller.connected(worker["port"], start()) as caller:
            await caller.socket.send_bytes(protocol.audio(piece))
            assert await caller.wait_until_closed() == CloseCode.PROTOCOL_ERROR
            assert "Ogg Opus" in caller.errors()[0]
        await greeted(bystander)
