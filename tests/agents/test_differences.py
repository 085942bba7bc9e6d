"""What changed between two configurations, told by the names of things."""

from __future__ import annotations

from typing import Any

import pytest

from agents.versions import Difference, differences
from tests.agents.factories import CONFIG, changed

INTENT = CONFIG["intents"][0]
OTHER = {"name": "cancel", "examples": ["Cancel it"]}
FACT = CONFIG["facts"][0]


def test_equal_configurations_do_not_differ() -> None:
    assert differences(CONFIG, changed(CONFIG, "name", CONFIG["name"])) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("greeting", "Hi.", Difference("greeting", CONFIG["greeting"], "Hi.")),
        ("llm", {"enabled": False}, Difference("llm", None, {"enabled": False})),
        ("prompt", ..., Difference("prompt", "Be brief.", None)),
        ("tools", ["hand_off"], Difference("tools", ["book_appointment"], ["hand_off"])),
        ("intents.0.done", "Done.", Difference("intents.book.done", "Booked for {starts_at}.", "Done.")),
        (
            "intents.0.questions.1.ask",
            "What time?",
            Difference("intents.book.questions.starts_at.ask", "When?", "What time?"),
        ),
        ("intents", [INTENT, OTHER], Difference("intents.cancel", None, OTHER)),
        ("intents", [], Difference("intents.book", INTENT, None)),
        ("facts.0.answer", "Never.", Difference("facts.When are you open?.answer", "Always.", "Never.")),
        ("facts", [], Difference("facts.When are you open?", FACT, None)),
    ],
)
def test_a_change_is_told_with_its_place_before_and_after(path: str, value: Any, expected: Difference) -> None:
    assert differences(CONFIG, changed(CONFIG, path, value)) == [expected]


def test_changes_come_in_the_order_of_the_newer_configuration() -> None:
    after = changed(changed(CONFIG, "goodbye", "Bye."), "greeting", "Hi.")
    assert [each.path for each in differences(CONFIG, after)] == ["greeting", "goodbye"]


def test_an_order_that_changed_is_told_too() -> None:
    before = changed(CONFIG, "intents", [INTENT, OTHER])
    after = changed(CONFIG, "intents", [OTHER, INTENT])
    assert differences(before, after) == [Difference("intents", ["book", "cancel"], ["cancel", "book"])]


def test_a_first_draft_differs_from_nothing_in_every_key() -> None:
    assert [each.path for each in differences({}, CONFIG)] == list(CONFIG)


def test_half_written_rows_are_compared_as_a_whole() -> None:
    before = changed(CONFIG, "facts", [{"question": "", "answer": ""}])
    assert [each.path for each in differences(before, CONFIG)] == ["facts"]
