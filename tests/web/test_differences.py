"""Differences between configurations of an agent, as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from web.differences import readable_differences

HOURS = {"question": "When are you open?", "also": [], "answer": "From nine to six."}


def read(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(each.where, each.lines) for each in readable_differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "where", "lines"),
    [
        ({"greeting": "Hi."}, {"greeting": "Hello."}, "Greeting", [("old", "Hi."), ("new", "Hello.")]),
        (
            {"facts": []},
            {"facts": [HOURS]},
            "What it knows › When are you open?",
            [("new", "answer: From nine to six.")],
        ),
        (
            {"facts": [HOURS]},
            {"facts": []},
            "What it knows › When are you open?",
            [("old", "answer: From nine to six.")],
        ),
        ({}, {"hand_off": "One moment."}, "When it cannot help", [("new", "One moment.")]),
        (
            {"llm": {"enabled": True}},
            {"llm": {"enabled": False}},
            "Language model › enabled",
            [("old", "true"), ("new", "false")],
        ),
        (
            {"prompt": "Be kind.\nBe quick."},
            {"prompt": "Be kind.\nBe precise."},
            "Prompt",
            [("same", "Be kind."), ("old", "Be quick."), ("new", "Be precise.")],
        ),
    ],
)
def test_a_change_is_told_where_it_is_and_line_by_line(
    before: dict[str, Any], after: dict[str, Any], where: str, lines: list[tuple[str, str]]
) -> None:
    assert read(before, after) == [(where, lines)]


def test_what_is_the_same_is_not_told() -> None:
    assert read({"facts": [HOURS], "greeting": "Hi."}, {"facts": [HOURS], "greeting": "Hi."}) == []


def test_an_answer_that_is_still_empty_has_a_line() -> None:
    ((_, lines),) = read({"facts": []}, {"facts": [{"question": "Parking?", "answer": "", "also": []}]})
    assert lines == [("new", "")]
