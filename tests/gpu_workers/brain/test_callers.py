"""Callers as they are: they tell more than was asked, take it back, ask in between, and wonder who is speaking."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from agents.catalog import templates_by_slug
from agents.start import agent_document
from gpu_workers.cascade.brain.hearing.answers import (
    read_address,
    read_choice,
    read_count,
    read_email,
    read_name,
    read_phone,
)
from gpu_workers.cascade.brain.hearing.times import read_moment
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.requests import Request, read_request, split_question
from gpu_workers.cascade.brain.sentences import fill_sentence
from tests.gpu_workers.brain.conversations import MONDAY, ToolServer, collect, hung_up, policy, refusal, talk

PHONE = "415 555 0123"


@pytest.fixture
def restaurant(model: IntentModel, tools: ToolServer) -> PolicyBrain:
    return brain_of("restaurant-host", model, tools)


def brain_of(slug: str, model: IntentModel, tools: ToolServer) -> PolicyBrain:
    return policy(model, agent_document(templates_by_slug()[slug].config, business_name="Acme"), tools)


def booked(tools: ToolServer) -> dict[str, Any]:
    name, arguments = tools.calls[-1]
    assert name == "book_appointment"
    return arguments


# --- what is told without being asked --------------------------------------------------------------------------------
async def test_a_name_that_comes_before_any_wish_is_kept(brain: PolicyBrain, tools: ToolServer) -> None:
    assert await talk(brain, "Hi, my name is Anna Smith.") == "Hello, Anna Smith. What can I do for you?"
    assert "number" in await talk(brain, "I'd like a haircut on Thursday at three")
    await talk(brain, PHONE, "Yes")
    assert booked(tools)["name"] == "Anna Smith"


async def test_a_name_told_to_a_wish_that_needs_none_is_kept_for_the_next(
    brain: PolicyBrain, tools: ToolServer
) -> None:
    await talk(brain, "Hi, this is Anna Smith, I want to cancel my appointment.", PHONE, "Yes")
    assert "for Anna Smith" in await talk(brain, "I'd like to book a haircut for Thursday at three")


async def test_a_name_told_with_a_question_is_kept(brain: PolicyBrain) -> None:
    await talk(brain, "Hello, this is Anna Smith. How much is a haircut?")
    assert "number" in await talk(brain, "I'd like to book a haircut for Thursday at three")


@pytest.mark.parametrize(
    ("heard", "fact", "asked_next"),
    [
        ("Thursday at three. Where can I park?", "free parking", "your name"),
        ("Thursday at three, how much is it?", "forty five dollars", "your name"),
        ("Wait, where can I park?", "free parking", "day and time"),
        ("Are you open on Saturday?", "nine to four", "day and time"),
    ],
)
async def test_a_question_that_comes_with_an_answer_is_answered_and_the_answer_is_kept(
    brain: PolicyBrain, heard: str, fact: str, asked_next: str
) -> None:
    answer = await talk(brain, "I'd like a haircut", heard)
    assert fact in answer and asked_next in answer


async def test_a_name_and_a_question_in_one_breath(brain: PolicyBrain) -> None:
    answer = await talk(brain, "I'd like a haircut on Thursday at three", "Anna Smith, and what's your address?")
    assert "twelve Mill Lane" in answer and "number" in answer


async def test_a_number_that_comes_with_a_question_is_said_back(brain: PolicyBrain) -> None:
    answer = await talk(
        brain, "I'd like a haircut on Thursday at three", "Anna", f"{PHONE}. Is there a fee for cancelling?"
    )
    assert "free of charge" in answer and "four one five, five five five" in answer and "Shall I book it?" in answer


async def test_what_does_not_answer_the_question_is_acknowledged_before_it_is_asked_again(brain: PolicyBrain) -> None:
    answer = await talk(brain, "I'd like a haircut", "My name is Bob Miller")
    assert answer == "All right, Bob Miller. What day and time would suit you?"


async def test_a_question_is_no_name(brain: PolicyBrain) -> None:
    assert "your name" in await talk(brain, "I'd like a haircut on Thursday at three", "Is coffee available?")


async def test_a_telephone_number_is_no_number_of_people(restaurant: PolicyBrain) -> None:
    answer = await talk(restaurant, "I'd like the terrace for Sunday at one", PHONE)
    assert "four one five" in answer and "how many people" in answer


async def test_an_address_told_in_a_message_is_not_asked_for_again(model: IntentModel, tools: ToolServer) -> None:
    plumber = brain_of("plumber-dispatch", model, tools)
    await talk(plumber, "A pipe burst and water is everywhere!")
    assert "your name" in await talk(plumber, "It is in the basement, my address is 5 Elm Street")


async def test_a_word_of_another_choice_does_not_change_what_was_chosen(model: IntentModel, tools: ToolServer) -> None:
    clinic = brain_of("clinic-reception", model, tools)
    await talk(clinic, "I'd like a check-up tomorrow at nine")
    await talk(clinic, "The patient is my son, Peter Miller", PHONE, "Yes")
    assert (booked(tools)["service"], booked(tools)["name"]) == ("check-up", "Peter Miller")


async def test_an_answer_that_ends_in_a_goodbye_is_taken(brain: PolicyBrain) -> None:
    assert "your name" in await talk(brain, "I'd like a haircut", "Thursday at three, that's all")


async def test_a_goodbye_at_the_confirmation_books_nothing_and_hangs_up(brain: PolicyBrain, tools: ToolServer) -> None:
    await talk(brain, "I'd like a haircut on Thursday at three", "Anna", PHONE)
    assert hung_up(await collect(brain.reply("Goodbye."), brain)) and not tools.calls


# --- what is taken back ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("correction", "starts_at"),
    [
        ("Hmm wait, can I do Wednesday instead?", "2026-03-04T15:00"),
        ("Can you make it half past four?", "2026-03-05T16:30"),
        ("Sorry, I meant four", "2026-03-05T16:00"),
        ("No, I meant Friday.", "2026-03-06T15:00"),
    ],
)
async def test_another_time_at_the_confirmation_changes_the_booking_and_moves_no_other(
    brain: PolicyBrain, tools: ToolServer, correction: str, starts_at: str
) -> None:
    again = await talk(brain, "I'd like a haircut on Thursday at three", "Anna", PHONE, correction)
    assert "Shall I book it?" in again
    await talk(brain, "Yes")
    assert booked(tools)["starts_at"] == starts_at


async def test_an_hour_is_corrected_while_something_else_is_asked_for(brain: PolicyBrain) -> None:
    answer = await talk(brain, "Haircut on Thursday at ten", "Anna", "Actually can we do eleven instead?")
    assert answer.startswith("All right, Thursday, March fifth at eleven in the morning.") and "number" in answer


async def test_the_number_that_was_told_last_is_the_one_that_is_taken_back(
    restaurant: PolicyBrain, tools: ToolServer
) -> None:
    await talk(restaurant, "I'd like the terrace on Saturday at eight", "four")
    assert (await talk(restaurant, "Sorry, I meant five")).startswith("All right, five.")
    await talk(restaurant, "Rossi", PHONE, "Yes")
    assert booked(tools)["notes"] == "Table for 5" and booked(tools)["starts_at"] == "2026-03-07T20:00"


async def test_to_make_it_eight_is_an_hour(restaurant: PolicyBrain) -> None:
    answer = await talk(restaurant, "The terrace on Saturday at seven", "four", "Rossi", PHONE, "Make it eight")
    assert "a table for four" in answer and "at eight in the evening" in answer


@pytest.mark.parametrize("heard", ["Could I come a bit later?", "Can someone come sooner?", "I want another time"])
async def test_another_hour_that_is_only_wished_for_is_asked_for(brain: PolicyBrain, heard: str) -> None:
    answer = await talk(brain, "I'd like a haircut on Thursday at three", "Anna", PHONE, heard)
    assert "day and time would suit you" in answer
    assert "at ten in the morning, for Anna. Shall I book it?" in await talk(brain, "Ten")


async def test_a_choice_with_a_fact_of_its_own_is_changed_at_the_confirmation(
    model: IntentModel, tools: ToolServer
) -> None:
    viewings = brain_of("viewings-desk", model, tools)
    await talk(viewings, "I'd like to see Oak Street on Saturday at noon", "Maria", PHONE)
    assert "a viewing of Harbour View" in await talk(viewings, "Hmm, actually Harbour View")


async def test_an_email_address_is_corrected_in_a_sentence(model: IntentModel, tools: ToolServer) -> None:
    desk = brain_of("product-desk", model, tools)
    await talk(desk, "I'd like a demo on Thursday at ten", "twenty people", "Sam Fox", "sam at example dot com", PHONE)
    await talk(desk, "No, the email is sam dot fox at example dot com", "Yes")
    assert booked(tools)["email"] == "sam.fox@example.com"


# --- times that are free ---------------------------------------------------------------------------------------------
TAKEN = refusal("That time is already taken.", alternatives=("2026-03-05T13:00", "2026-03-06T15:00"))


async def test_none_of_the_times_will_do(brain: PolicyBrain, tools: ToolServer) -> None:
    tools.replies = [TAKEN]
    answer = await talk(brain, "Haircut on Thursday at three", "Anna", PHONE, "Yes", "None of those work for me")
    assert answer == "What day and time would suit you?"


async def test_a_part_of_the_day_that_was_not_offered_is_looked_up_and_another_wish_forgets_it(
    brain: PolicyBrain, tools: ToolServer
) -> None:
    tools.replies = [TAKEN, refusal("", alternatives=())]
    await talk(brain, "Haircut on Thursday at three", "Anna", PHONE, "Yes", "Do you have anything in the morning?")
    assert tools.calls[-1] == ("check_availability", {"service": "haircut", "starts_at": "2026-03-05T09:00"})
    assert "Friday, March sixth at three in the afternoon" in await talk(brain, "Friday at three works")


async def test_free_times_are_no_opening_hours(model: IntentModel, tools: ToolServer) -> None:
    clinic = brain_of("clinic-reception", model, tools)
    await talk(clinic, "I'd like a check-up", "Is the doctor free tomorrow morning?")
    assert tools.calls == [("check_availability", {"service": "check-up", "starts_at": "2026-03-03T09:00"})]


# --- which wish ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("heard", ["Do you have a table for Saturday?", "Okay then, Tuesday at noon"])
async def test_a_day_alone_books_and_moves_nothing(restaurant: PolicyBrain, heard: str) -> None:
    assert "dining room" in await talk(restaurant, heard)


async def test_a_massage_at_the_weekend_moves_no_other(model: IntentModel, tools: ToolServer) -> None:
    spa = brain_of("day-spa", model, tools)
    assert "Which treatment" in await talk(spa, "Hi, could I get a massage this weekend?")


async def test_a_demo_on_a_day_moves_no_other(model: IntentModel, tools: ToolServer) -> None:
    assert "How many people" in await talk(brain_of("product-desk", model, tools), "I'd like a demo on Thursday at ten")


async def test_to_want_to_cancel_is_no_question_about_cancelling(brain: PolicyBrain) -> None:
    assert "Which number" in await talk(brain, "I want to cancel")


async def test_a_question_without_an_answer_is_told_so(brain: PolicyBrain) -> None:
    assert (await talk(brain, "Do you sell shampoo?")).startswith("I am sorry, I don't know that.")


async def test_a_number_that_is_refused_is_said_to_be_needed(brain: PolicyBrain) -> None:
    answer = await talk(brain, "I'd like a haircut on Thursday at three", "Anna", "I'd rather not give my number")
    assert "can't do that without it" in answer and "number" in answer


# --- who is speaking, and what was said ------------------------------------------------------------------------------
@pytest.mark.parametrize("heard", ["Are you a robot?", "Are you a real person?", "What's your name?", "Who is this?"])
async def test_it_says_who_it_is_and_goes_on(brain: PolicyBrain, tools: ToolServer, heard: str) -> None:
    answer = await talk(brain, "I'd like a haircut on Thursday at three", heard)
    assert "automatic assistant of Acme" in answer and "your name" in answer and not tools.calls


async def test_it_says_what_it_has_so_far(brain: PolicyBrain) -> None:
    answer = await talk(brain, "I'd like a haircut tomorrow at ten", "Anna", "What time did you say?")
    assert answer.startswith("So far I have haircut, tomorrow at ten in the morning, Anna.") and "number" in answer


@pytest.mark.parametrize(
    ("heard", "request_"),
    [
        ("Sorry, what was that?", Request.REPEAT),
        ("sorry what", Request.REPEAT),
        ("hmm let me think", Request.HOLD_ON),
        ("help", Request.CAPABILITIES),
        ("can I talk to a real person", Request.PERSON),
        ("am I talking to a machine", Request.WHO),
        ("did you get my name right", Request.RECALL),
    ],
)
def test_what_is_asked_at_any_point_is_told_apart(heard: str, request_: Request) -> None:
    assert read_request(heard) is request_


# --- hearing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("heard", "name"),
    [
        ("Siobhan, that's S I O B H A N", "Siobhan"),
        ("Maria, M A R I A, Lopez", "Maria Lopez"),
        ("Anna Smith, S M Y T H", "Anna Smyth"),
        ("S-M-I-T-H", "Smith"),
        ("is parking available", None),
        ("hm, what time did you say", None),
    ],
)
def test_a_spelled_name_is_written_as_it_is_spelled(heard: str, name: str | None) -> None:
    assert read_name(heard, asked=True) == name


@pytest.mark.parametrize(
    ("heard", "ask", "count"),
    [
        ("me and my wife", "For how many people?", 2),
        ("just me", "For how many people?", 1),
        ("the terrace for Sunday at one, for six, please", "For how many people?", 6),
        ("my budget is two thousand dollars", "And what is your budget, in dollars?", 2000),
        ("two bedrooms, for two thousand dollars", "How many bedrooms do you need?", 2),
    ],
)
def test_a_count_is_read_as_callers_tell_it(heard: str, ask: str, count: int) -> None:
    assert read_count(heard, ask) == count


@pytest.mark.parametrize(
    ("heard", "address"),
    [
        ("please hurry, my address is 5 Elm Street", "5 Elm Street"),
        ("we are at twenty four Mill Lane, Anna speaking", "twenty four Mill Lane"),
        ("at nine on Thursday", None),
    ],
)
def test_an_address_is_read_where_nobody_asked(heard: str, address: str | None) -> None:
    assert read_address(heard) == address


@pytest.mark.parametrize(("heard", "days"), [("to-morrow, afternoon", 1), ("to-day at three", 0)])
def test_days_with_a_hyphen_are_days(heard: str, days: int) -> None:
    assert read_moment(heard, MONDAY).date == MONDAY.date() + datetime.timedelta(days=days)


def test_a_form_of_a_choice_is_that_choice() -> None:
    assert read_choice("my kitchen sink is leaking", ["leak repair", "drain cleaning"]) == "leak repair"


def test_a_first_digit_that_was_heard_as_a_word_is_a_digit() -> None:
    assert read_phone("For 155550123") == "4155550123"


def test_an_email_address_is_found_behind_other_words() -> None:
    assert read_email("sorry the email is sam dot fox at example dot com") == "sam.fox@example.com"


def test_what_is_told_and_what_is_asked_are_told_apart() -> None:
    assert split_question("Thursday at three, how much is it?") == ("Thursday at three", "how much is it?")
    assert split_question("Wait, where can I park?") == ("", "where can I park?")
    assert split_question("Anna Smith, please.") == ("Anna Smith", "")


@pytest.mark.parametrize(
    ("service", "sentence"), [("exam", "an exam"), ("haircut", "a haircut"), ("highlights", "highlights")]
)
def test_the_article_fits_what_it_stands_before(service: str, sentence: str) -> None:
    assert fill_sentence("a {service}", {"service": service}, MONDAY) == sentence
