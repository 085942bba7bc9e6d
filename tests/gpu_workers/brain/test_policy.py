"""The policy in the turns that do not go by the book."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpu_workers.cascade.brain.dialogue import MISSES_BEFORE_HAND_OFF
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.tool_client import NoTools, ToolReply
from gpu_workers.protocol import ToolRun, Utterance
from tests.gpu_workers.brain.conversations import (
    ToolServer,
    collect,
    hung_up,
    policy,
    refusal,
    said,
    talk,
    tools_called,
)

BOOKING = ("I'd like to book a haircut for Thursday at three.", "Anna Smith.", "415 555 0123")
TAKEN = refusal(
    "That time is already taken.", alternatives=("2026-03-05T13:00", "2026-03-05T16:30", "2026-03-06T15:00")
)


# --- corrections -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("correction", "changed"),
    [
        ("No, make it Friday at ten.", {"starts_at": "2026-03-06T10:00"}),
        ("No, at half past four.", {"starts_at": "2026-03-05T16:30"}),
        ("Actually, on Wednesday.", {"starts_at": "2026-03-04T15:00"}),
        ("No, I'd like highlights instead.", {"service": "highlights"}),
        ("No, my name is Hanna Smythe.", {"name": "Hanna Smythe"}),
        ("The number is 415 555 9999.", {"phone": "4155559999"}),
    ],
)
async def test_what_is_corrected_at_the_confirmation_is_changed_and_confirmed_again(
    brain: PolicyBrain, tools: ToolServer, correction: str, changed: dict[str, str]
) -> None:
    await talk(brain, *BOOKING)
    again = await talk(brain, correction)
    assert "Shall I book it?" in again and not tools.calls
    await talk(brain, "Yes.")
    wanted = {"service": "haircut", "starts_at": "2026-03-05T15:00", "name": "Anna Smith", "phone": "4155550123"}
    assert tools.calls == [("book_appointment", wanted | changed)]


async def test_after_a_bare_no_the_agent_asks_what_to_change(brain: PolicyBrain, tools: ToolServer) -> None:
    assert "What should I change?" in await talk(brain, *BOOKING, "No.")
    assert "Friday" in await talk(brain, "The day. Friday, please.")
    await talk(brain, "Yes.")
    assert tools.calls[0][1]["starts_at"] == "2026-03-06T15:00"


async def test_a_telephone_number_in_two_breaths_is_joined(brain: PolicyBrain, tools: ToolServer) -> None:
    answer = await talk(brain, *BOOKING[:2], "four one five, five five five")
    assert "And the rest?" in answer
    await talk(brain, "zero one two three", "yes")
    assert tools.calls[0][1]["phone"] == "4155550123"


async def test_a_day_and_then_a_time_make_an_appointment(brain: PolicyBrain) -> None:
    assert "What time" in await talk(brain, "I'd like to book a haircut", "On Thursday morning.")
    assert "name" in await talk(brain, "At seven thirty.")


# --- a time that is taken --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("picked", "starts_at"),
    [
        ("The second one, please.", "2026-03-05T16:30"),
        ("The last one.", "2026-03-06T15:00"),
        ("One o'clock is fine.", "2026-03-05T13:00"),
        ("Half past four.", "2026-03-05T16:30"),
        ("Friday works.", "2026-03-06T15:00"),
        ("No, I'd rather come on Saturday at eleven.", "2026-03-07T11:00"),
    ],
)
async def test_an_alternative_is_picked_by_its_place_its_hour_or_its_day(
    brain: PolicyBrain, tools: ToolServer, picked: str, starts_at: str
) -> None:
    tools.replies = [TAKEN]
    offer = await talk(brain, *BOOKING, "Yes.")
    assert "already taken" in offer and "one in the afternoon" in offer and "four thirty" in offer
    assert "Shall I book it?" in await talk(brain, picked)
    assert "booked" in await talk(brain, "Yes, please.")
    assert [arguments["starts_at"] for _, arguments in tools.calls] == ["2026-03-05T15:00", starts_at]


async def test_without_an_alternative_the_time_is_asked_for_again(brain: PolicyBrain, tools: ToolServer) -> None:
    tools.replies = [refusal("We are not open then.")]
    answer = await talk(brain, *BOOKING, "Yes.")
    assert "not open" in answer and "day and time" in answer
    assert "four in the afternoon" in await talk(brain, "At four, then.")


async def test_a_failure_that_names_no_question_ends_the_wish_in_words(brain: PolicyBrain, tools: ToolServer) -> None:
    tools.replies = [ToolReply(False, {}, 1.0, code="failed", sentence="Something went wrong on our side.")]
    answer = await talk(brain, *BOOKING, "Yes.")
    assert "Something went wrong" in answer and "anything else" in answer


async def test_a_call_without_tools_says_so(model: IntentModel, salon: dict[str, Any]) -> None:
    brain = policy(model, salon, NoTools())  # type: ignore[arg-type]
    assert "can't look that up" in await talk(brain, *BOOKING, "Yes.")


async def test_free_times_are_looked_up_where_the_caller_asks_for_some(brain: PolicyBrain, tools: ToolServer) -> None:
    tools.replies = [ToolReply(True, {"free": False, "alternatives": ["2026-03-05T10:00", "2026-03-05T11:00"]}, 1.0)]
    answer = await talk(brain, "I'd like to book a haircut", "Which times are free on Thursday?")
    assert tools.calls[0][0] == "check_availability" and "ten in the morning or eleven" in answer
    assert "name" in await talk(brain, "The first one.")


# --- what may come at any point --------------------------------------------------------------------------------------
async def test_a_fact_in_the_middle_of_a_booking_comes_with_the_question_again(brain: PolicyBrain) -> None:
    await talk(brain, BOOKING[0])
    answer = await talk(brain, "Wait, where can I park?")
    assert "free parking" in answer and "your name" in answer
    assert "number" in await talk(brain, "Anna Smith")


async def test_a_fact_at_the_confirmation_does_not_book(brain: PolicyBrain, tools: ToolServer) -> None:
    answer = await talk(brain, *BOOKING, "Can I pay by card?")
    assert "all cards" in answer and "Shall I book it?" in answer and not tools.calls


async def test_it_repeats_what_it_said(brain: PolicyBrain) -> None:
    first = await talk(brain, BOOKING[0])
    assert await talk(brain, "Sorry, can you repeat that?") == first


async def test_never_mind_leaves_the_booking(brain: PolicyBrain, tools: ToolServer) -> None:
    assert "What would you like to do?" in await talk(brain, *BOOKING, "Never mind.")
    assert "forty five dollars" in await talk(brain, "How much is a haircut?")
    assert not tools.calls


async def test_another_wish_in_the_middle_is_taken_up(brain: PolicyBrain) -> None:
    assert "cancel" in await talk(brain, BOOKING[0], "I want to cancel my appointment.", "415 555 0123")


async def test_name_and_number_are_asked_for_once_a_call(brain: PolicyBrain, tools: ToolServer) -> None:
    await talk(brain, *BOOKING, "Yes.")
    assert "Shall I cancel" in await talk(brain, "I want to cancel my appointment.")


async def test_it_says_what_it_can_do(brain: PolicyBrain) -> None:
    assert "book an appointment" in await talk(brain, "What can you do?")


async def test_silence_is_no_miss(brain: PolicyBrain) -> None:
    await talk(brain, BOOKING[0])
    for _ in range(5):
        assert "your name" in await talk(brain, "...")


# --- handing over ----------------------------------------------------------------------------------------------------
async def test_a_caller_whom_it_does_not_understand_is_handed_over(brain: PolicyBrain, tools: ToolServer) -> None:
    gibberish = "Purple elephants calculate the tide."
    for _ in range(MISSES_BEFORE_HAND_OFF - 1):
        assert "did not understand" in await talk(brain, gibberish)
    assert "call you back" in await talk(brain, gibberish)
    answer = await talk(brain, "Anna Smith", "415 555 0123")
    assert tools.names == ["hand_off"] and tools.calls[0][1]["reason"]
    assert "call you back" in answer


async def test_a_caller_who_wants_a_person_is_handed_over_at_once(brain: PolicyBrain, tools: ToolServer) -> None:
    assert "your name" in await talk(brain, "Can I speak to a real person, please?")
    await talk(brain, "Anna Smith", "415 555 0123")
    assert tools.calls == [
        ("hand_off", {"reason": "Can I speak to a real person, please?", "name": "Anna Smith", "phone": "4155550123"})
    ]


async def test_goodbye_hangs_up(brain: PolicyBrain) -> None:
    parts = await collect(brain.reply("Goodbye."), brain)
    assert hung_up(parts) and "Thank you for calling Acme" in said(parts)


async def test_when_time_is_up_it_says_goodbye_and_hangs_up(brain: PolicyBrain) -> None:
    parts = await collect(brain.wrap_up(), brain)
    assert hung_up(parts) and "time is nearly up" in said(parts)


# --- barge-in and resumption -----------------------------------------------------------------------------------------
async def test_a_booking_during_which_the_caller_speaks_is_made_once_and_told_in_the_next_turn(
    brain: PolicyBrain, tools: ToolServer
) -> None:
    await talk(brain, *BOOKING)
    tools.gate = asyncio.Event()
    turn = asyncio.create_task(collect(brain.reply("Yes."), brain))
    async with asyncio.timeout(5):
        while not tools.calls:
            await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    tools.gate.set()
    parts = await collect(brain.reply("Where can I park?"), brain)
    assert tools_called(parts) == ["book_appointment"] and tools.finished == 1
    assert "You are booked" in said(parts) and "free parking" in said(parts)
    assert "booked" not in await talk(brain, "Do you take cards?")


async def test_a_turn_cut_off_before_its_end_keeps_what_was_understood(brain: PolicyBrain) -> None:
    parts = brain.reply(BOOKING[0])
    await anext(parts)
    await parts.aclose()
    assert "number" in await talk(brain, "Anna Smith.")


async def test_a_call_that_comes_back_goes_on_where_it_was_and_runs_no_tool_again(
    model: IntentModel, salon: dict[str, Any], tools: ToolServer
) -> None:
    told = [
        ("agent", "Hello, this is Acme."),
        *(("caller", heard) for heard in (*BOOKING, "Yes.", "Can you book another?")),
    ]
    history = tuple(Utterance(*each) for each in told)
    brain = policy(model, salon, tools, history=history, tools_run=(ToolRun("book_appointment", True),))
    answer = said(await collect(brain.greet(), brain))
    assert "lost you" in answer and "Which service" in answer
    assert not tools.calls


async def test_a_call_lost_before_the_confirmation_confirms_again(
    model: IntentModel, salon: dict[str, Any], tools: ToolServer
) -> None:
    brain = policy(model, salon, tools, history=tuple(Utterance("caller", heard) for heard in BOOKING))
    assert "Shall I book it?" in said(await collect(brain.greet(), brain))
    await talk(brain, "Yes.")
    assert tools.names == ["book_appointment"]


async def test_a_call_lost_before_its_booking_was_made_confirms_again(
    model: IntentModel, salon: dict[str, Any], tools: ToolServer
) -> None:
    history = tuple(Utterance("caller", heard) for heard in (*BOOKING, "Yes."))
    brain = policy(model, salon, tools, history=history)
    assert "Shall I book it?" in said(await collect(brain.greet(), brain))
    await talk(brain, "Yes.")
    assert tools.names == ["book_appointment"]


async def test_a_call_lost_before_a_person_was_told_comes_back_with_that(
    model: IntentModel, salon: dict[str, Any], tools: ToolServer
) -> None:
    heard = ("Can I speak to a real person, please?", "Anna Smith", "415 555 0123")
    history = tuple(Utterance("caller", each) for each in heard)
    brain = policy(model, salon, tools, history=history)
    assert "call you back" in said(await collect(brain.greet(), brain))
    assert tools.names == ["hand_off"]
    brain = policy(model, salon, tools, history=history, tools_run=(ToolRun("hand_off", True),))
    await collect(brain.greet(), brain)
    assert tools.names == ["hand_off"]


async def test_an_agent_with_an_empty_configuration_still_talks(model: IntentModel, tools: ToolServer) -> None:
    brain = policy(model, {}, tools)
    assert said(await collect(brain.greet(), brain))
    assert await talk(brain, "I'd like to book a haircut.")
