"""What is keyed in on a telephone: numbers, dates, choices, yes and no, and the wish for a person."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.keypad import words_of_keys
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.tool_client import ToolReply
from gpu_workers.protocol import CallersLine, Start
from tests.gpu_workers.brain.conversations import MONDAY, ToolServer, collect, hung_up, said, talk

CHOICE = {"name": "service", "type": "choice", "choices": ["haircut", "beard trim"]}


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ("4155550123#", "phone", "4155550123"),
        ("12#", "number", "12"),
        ("2", "choice", "beard trim"),
        ("1", "yes_no", "yes"),
        ("2#", "yes_no", "no"),
        ("0312#", "date", "March 12"),
        ("0312#", "datetime", "March 12"),
        ("1530#", "time", "3:30 pm"),
        ("930", "time", "9:30"),
        ("9999", "date", "9999"),
        ("0", "", "I want to speak to a person."),
        ("0", "choice", "I want to speak to a person."),
        ("0#", "name", "I want to speak to a person."),
        ("*", "phone", "Could you say that again?"),
        ("#", "phone", ""),
    ],
)
def test_keys_mean_what_was_asked_for(keys: str, kind: str, words: str) -> None:
    question: dict[str, Any] | None = {**CHOICE, "type": kind} if kind else None
    assert words_of_keys(keys, question, is_confirming=False, has_date=False) == words


def test_four_keys_are_an_hour_once_the_day_is_known() -> None:
    question = {"name": "starts_at", "type": "datetime"}
    assert words_of_keys("0330", question, is_confirming=False, has_date=True) == "3:30"


def test_one_and_two_are_yes_and_no_where_something_is_confirmed() -> None:
    assert words_of_keys("1", CHOICE, is_confirming=True, has_date=True) == "yes"
    assert words_of_keys("2", CHOICE, is_confirming=True, has_date=True) == "no"


def telephone_policy(model: IntentModel, agent: dict[str, Any], tools: ToolServer, **line: bool) -> PolicyBrain:
    start = Start("a call", agent=agent, business={"name": "Acme"}, line=CallersLine(has_keypad=True, **line))
    return PolicyBrain(start, tools, lambda: MONDAY, model)


async def press(brain: PolicyBrain, *keyed: str) -> str:
    answer = ""
    for keys in keyed:
        answer = said(await collect(brain.reply_to_keys(keys), brain))
    return answer


async def test_a_booking_is_made_with_keys(model: IntentModel, salon: dict[str, Any], tools: ToolServer) -> None:
    brain = telephone_policy(model, salon, tools)
    await talk(brain, "I would like to book a haircut.")
    assert "what time" in (await press(brain, "0305#")).lower()
    await press(brain, "1500#")
    await talk(brain, "My name is Dora Miller.")
    assert "zero one two three" in await press(brain, "4155550123#")
    await press(brain, "1")
    ((name, arguments),) = tools.calls
    assert name == "book_appointment"
    assert (arguments["starts_at"], arguments["phone"]) == ("2026-03-05T15:00", "4155550123")


async def test_a_number_that_was_not_understood_may_be_keyed_in(
    model: IntentModel, salon: dict[str, Any], tools: ToolServer
) -> None:
    brain = telephone_policy(model, salon, tools)
    await talk(brain, "I would like to book a haircut.", "Next Thursday at three in the afternoon.", "Dora Miller.")
    assert "key it in" in await talk(brain, "Four one five, five five five, zero one two three four.")
    assert "zero one two three" in await press(brain, "4155550123#")


async def test_who_wants_a_person_is_put_through_without_being_asked_anything(
    model: IntentModel, salon: dict[str, Any], tools: ToolServer
) -> None:
    tools.replies = [ToolReply(True, {"puts_through": True}, 1.0)]
    brain = telephone_policy(model, salon, tools, puts_through=True)
    parts = await collect(brain.reply_to_keys("0"), brain)
    assert tools.names == ["hand_off"] and hung_up(parts)
    assert "put you through" in said(parts)


async def test_where_nobody_takes_over_a_number_to_call_back_is_asked_for(
    model: IntentModel, salon: dict[str, Any], tools: ToolServer
) -> None:
    brain = telephone_policy(model, salon, tools)
    assert "name" in await press(brain, "0") and not tools.calls


def test_a_worker_of_an_older_gateway_knows_no_keypad() -> None:
    document = {"call_id": "a call"}
    assert Start.from_document(document).line == CallersLine()
    told = dataclasses.asdict(Start("a call", line=CallersLine(has_keypad=True)))
    assert Start.from_document(told).line == CallersLine(has_keypad=True)
