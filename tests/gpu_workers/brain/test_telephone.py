"""Calls as they are on the telephone: no capitals, no punctuation, fillers, changes of mind, and half sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.catalog import templates_by_slug
from agents.start import agent_document
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.tool_client import ToolReply
from tests.gpu_workers.brain.conversations import ToolServer, collect, hung_up, policy, refusal, said, talk

Agent = Callable[[str], PolicyBrain]


@pytest.fixture
def agent(model: IntentModel, tools: ToolServer) -> Agent:
    def make(slug: str) -> PolicyBrain:
        return policy(model, agent_document(templates_by_slug()[slug].config, business_name="Acme"), tools)

    return make


async def test_a_haircut_in_small_steps(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    assert "day and time" in await talk(brain, "hi um i was wondering if i could get my hair cut sometime this week")
    assert "What time on Thursday" in await talk(brain, "uh thursday afternoon maybe")
    await talk(brain, "lets say three thirty", "yeah its sarah connor", "uh four one five five five five")
    assert "Shall I book it?" in await talk(brain, "oh one two three")
    await talk(brain, "yep")
    wanted = {"service": "haircut", "starts_at": "2026-03-05T15:30", "name": "Sarah Connor", "phone": "4155550123"}
    assert tools.calls == [("book_appointment", wanted)]
    assert hung_up(await collect(brain.reply("no thats it thanks bye"), brain))


async def test_a_service_that_is_only_named_and_a_price_asked_as_that(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    tools.replies = [
        refusal("That time is taken.", alternatives=("2026-03-05T13:00", "2026-03-05T16:30", "2026-03-06T15:00"))
    ]
    assert "day and time" in await talk(brain, "highlights i guess")
    assert "one hundred and twenty" in await talk(brain, "how much is that")
    await talk(brain, "ok thursday at three", "my name is maria lopez", "4155550123", "yes please")
    assert "four thirty" in await talk(brain, "um the middle one")


async def test_corrections_without_any_stress(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    tools.replies = [ToolReply(True, {"free": False, "alternatives": ["2026-03-05T10:00", "2026-03-05T11:30"]}, 1.0)]
    assert "eleven thirty" in await talk(brain, "do you have anything free on thursday for a haircut")
    await talk(brain, "the second one", "tom", "six five oh five five five oh one nine nine")
    assert "eleven in the morning" in await talk(brain, "wait actually can you make that eleven")
    assert "for Thomas" in await talk(brain, "no i meant the name is thomas")
    await talk(brain, "yes that's right")
    wanted = {"service": "haircut", "starts_at": "2026-03-05T11:00", "name": "Thomas", "phone": "6505550199"}
    assert tools.calls[-1] == ("book_appointment", wanted)


@pytest.mark.parametrize("part", ["the time", "no the time is wrong", "can i change the day"])
async def test_a_part_that_is_only_named_is_asked_for_again(agent: Agent, part: str) -> None:
    brain = agent("dental-office")
    await talk(
        brain, "i need a cleaning", "friday at ten", "anna smith", "four one five triple five zero one two three"
    )
    assert "day and time" in await talk(brain, "no", part)
    assert "Friday, March sixth at eleven" in await talk(brain, "friday at eleven")


@pytest.mark.parametrize(
    ("wish", "moved_to"),
    [
        (("yeah hi i have an appointment thursday and i cant make it", "next tuesday at ten"), "2026-03-10T10:00"),
        (("could you change my appointment from thursday to friday at two",), "2026-03-06T14:00"),
    ],
)
async def test_the_day_that_is_given_up_is_not_the_day_that_is_wished_for(
    agent: Agent, tools: ToolServer, wish: tuple[str, ...], moved_to: str
) -> None:
    await talk(agent("salon-front-desk"), wish[0], "four one five five five five zero one two three", *wish[1:], "yes")
    assert tools.calls == [("reschedule_appointment", {"phone": "4155550123", "starts_at": moved_to})]


async def test_a_table_whose_guests_and_hour_are_not_mixed_up(agent: Agent, tools: ToolServer) -> None:
    brain = agent("restaurant-host")
    assert "dining room" in await talk(brain, "hi can i get a table for four tonight at seven thirty")
    assert "name" in await talk(brain, "inside please")
    await talk(brain, "smith", "it's two one two five five five zero one eight seven")
    assert "table for five" in await talk(brain, "actually we're five people")
    await talk(brain, "yes")
    arguments = tools.calls[0][1]
    assert (arguments["service"], arguments["starts_at"], arguments["notes"]) == (
        "dining room",
        "2026-03-02T19:30",
        "Table for 5",
    )


async def test_a_yes_to_what_the_greeting_asks_is_a_wish(agent: Agent) -> None:
    assert "dining room" in await talk(agent("restaurant-host"), "yes please")
    assert "What can I do for you?" in await talk(agent("restaurant-host"), "no")
    assert "What can I do for you?" in await talk(agent("viewings-desk"), "yes")


async def test_an_emergency_reaches_the_plumber_word_for_word(agent: Agent, tools: ToolServer) -> None:
    brain = agent("plumber-dispatch")
    assert "exactly is happening" in await talk(brain, "help theres water pouring out of my ceiling")
    assert "exactly is happening" in await talk(brain, "um yes")
    await talk(brain, "i think a pipe burst", "twelve oak street apartment four", "john miller")
    await talk(brain, "five one oh five five five oh one seven seven")
    assert tools.calls == [
        (
            "take_message",
            {
                "message": "EMERGENCY: i think a pipe burst Address: twelve oak street apartment four",
                "name": "John Miller",
                "phone": "5105550177",
            },
        )
    ]


async def test_what_to_do_at_once_is_said_and_nothing_else(agent: Agent) -> None:
    answer = await talk(agent("plumber-dispatch"), "i smell gas")
    assert "leave the house now" in answer and "anything else" not in answer


async def test_a_message_may_say_that_it_is_all(agent: Agent, tools: ToolServer) -> None:
    brain = agent("dental-office")
    told = "i bit on something and it cracked please call me back that's all"
    await talk(brain, "my tooth is killing me", told, "anna smith", "four one five five five five oh one two three")
    assert tools.calls[0][1]["message"] == f"IN PAIN: {told}"


async def test_who_gives_no_number_still_leaves_a_message(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    await talk(brain, "can i speak to maria", "its about my haircut yesterday", "anna smith")
    assert "passed that on" in await talk(brain, "i don't want to give you my number")
    assert tools.calls == [("take_message", {"message": "it's about my haircut yesterday", "name": "Anna Smith"})]


async def test_a_booking_needs_a_number(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    await talk(brain, "id like a haircut thursday at three", "anna smith")
    assert "number" in await talk(brain, "no") and not tools.calls


async def test_a_hand_over_ends_though_nothing_is_understood(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    for _ in range(8):
        await talk(brain, "purple elephants calculate the tide")
        if tools.calls:
            break
    assert tools.names == ["hand_off"]


async def test_a_number_that_is_misheard_is_taken_in_three_parts(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    await talk(brain, "id like a beard trim saturday at eleven", "mike")
    lost_a_digit = "four one five five five oh one two three"
    assert "digit by digit" in await talk(brain, lost_a_digit)
    assert "first three digits" in await talk(brain, lost_a_digit)
    assert "next three" in await talk(brain, "four one five")
    assert "last four" in await talk(brain, "five five five")
    assert "Shall I book it?" in await talk(brain, "oh one two three")


async def test_names_are_no_choices_and_thanks_are_no_names(agent: Agent, tools: ToolServer) -> None:
    brain = agent("viewings-desk")
    await talk(brain, "were looking for a place to buy", "two bedrooms", "somewhere near the river")
    assert "your name" in await talk(brain, "up to two thousand five hundred")
    assert "your name" in await talk(brain, "thanks")
    await talk(brain, "brent young", "four one five five five five oh one two three", "yes")
    assert tools.calls[0][1]["name"] == "Brent Young" and "Wants to buy" in tools.calls[0][1]["message"]


async def test_a_question_about_what_is_being_booked_is_answered_for_that(agent: Agent) -> None:
    brain = agent("viewings-desk")
    await talk(brain, "id love to take a look at the oak street house", "saturday at eleven")
    assert "three bedrooms" in await talk(brain, "how many bedrooms does it have")


async def test_a_cancellation_that_is_not_wanted_is_left_alone(agent: Agent, tools: ToolServer) -> None:
    brain = agent("plumber-dispatch")
    await talk(brain, "i need to cancel tomorrow's visit", "its under four one five five five five zero one two three")
    assert "leave it as it is" in await talk(brain, "no") and not tools.calls
    await talk(brain, "yes i want to cancel it", "yes")
    assert tools.names == ["cancel_appointment"]


async def test_a_caller_who_only_says_hello_is_greeted_and_not_handed_over(agent: Agent) -> None:
    brain = agent("salon-front-desk")
    for heard in ("um hello", "hello hello", "is anybody there", "can you hear me"):
        assert await talk(brain, heard) == "Hello. How can I help you?"


async def test_a_part_of_the_day_at_the_confirmation_asks_for_the_hour(agent: Agent) -> None:
    brain = agent("salon-front-desk")
    await talk(brain, "id like a haircut thursday at ten", "anna", "415 555 0123")
    assert "What time on Thursday" in await talk(brain, "could we do the afternoon instead")
    assert "Thursday, March fifth at two in the afternoon" in await talk(brain, "two")


async def test_an_offer_that_does_not_suit_is_dropped(agent: Agent, tools: ToolServer) -> None:
    brain = agent("salon-front-desk")
    tools.replies = [ToolReply(True, {"free": True, "starts_at": "2026-03-05T10:00", "alternatives": []}, 1.0)]
    await talk(brain, "i want a haircut on thursday")
    assert "ten in the morning. Would that suit you?" in await talk(brain, "whats the earliest you have")
    assert "day and time" in await talk(brain, "no neither of those")
    assert "your name" in await talk(brain, "friday at noon")


async def test_asking_for_a_repeat_after_being_cut_off_brings_all_of_it(agent: Agent) -> None:
    brain = agent("salon-front-desk")
    whole = said([part async for part in brain.reply("how much is a haircut")])
    brain.was_spoken("A haircut is", interrupted=True)
    assert await talk(brain, "sorry") == whole


@pytest.mark.parametrize(
    "heard",
    [
        "okay but can you make it later",
        "hold on please",
        "yeah one moment",
        "is it ok to bring my dog",
        "right but with another stylist please",
        "wait",
    ],
)
async def test_nothing_is_booked_on_half_a_yes(agent: Agent, tools: ToolServer, heard: str) -> None:
    brain = agent("salon-front-desk")
    await talk(brain, "id like a haircut thursday at ten", "anna", "415 555 0123")
    assert await talk(brain, heard) and not tools.calls
    await talk(brain, "no make it four" if "but" in heard else "yes", "yes" if "but" in heard else "no")
    assert tools.names == ["book_appointment"]


@pytest.mark.parametrize(
    "heard", ["could you book it please", "yes please do", "um yeah thats right", "why not", "sure"]
)
async def test_a_whole_yes_books(agent: Agent, tools: ToolServer, heard: str) -> None:
    await talk(agent("salon-front-desk"), "id like a haircut thursday at ten", "anna", "415 555 0123", heard)
    assert tools.names == ["book_appointment"]
