"""Answers as recognisers write them: yes and no, choices, places in a list, names, numbers, e-mail addresses."""

from __future__ import annotations

import pytest

from gpu_workers.cascade.brain.hearing.answers import (
    read_choice,
    read_count,
    read_email,
    read_name,
    read_phone,
    read_position,
    read_yes_no,
)
from gpu_workers.cascade.brain.hearing.words import read_number, with_apostrophes, without_phone

SERVICES = ["haircut", "colour", "highlights", "beard trim", "child's haircut"]


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("Yes.", True),
        ("yeah sure", True),
        ("Yes, please.", True),
        ("That's right.", True),
        ("go ahead", True),
        ("sounds good to me", True),
        ("Perfect.", True),
        ("no problem", True),
        ("please do", True),
        ("No.", False),
        ("nope", False),
        ("no thank you", False),
        ("that's not right", False),
        ("that is wrong", False),
        ("please don't", False),
        ("No, that's all.", False),
        ("", None),
        ("Thursday", None),
        ("my name is Anna", None),
        ("hmm", None),
    ],
)
def test_yes_and_no_are_told_apart(heard: str, meant: bool | None) -> None:
    assert read_yes_no(heard) is meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("A haircut, please.", "haircut"),
        ("two haircuts", "haircut"),
        ("a hair cut", "haircut"),
        ("highlights", "highlights"),
        ("a high light", "highlights"),
        ("beer trim", "beard trim"),
        ("a child's haircut for my son", "child's haircut"),
        ("the trim", "beard trim"),
        ("colour", "colour"),
        ("color", "colour"),
        ("a massage", None),
        ("", None),
        ("I don't know", None),
    ],
)
def test_a_choice_is_recognised_as_recognisers_write_it(heard: str, meant: str | None) -> None:
    assert read_choice(heard, SERVICES) == meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("I'd like to book a cleaning", None),
        ("the deep one", "deep cleaning"),
        ("a deep clean", "deep cleaning"),
        ("a regular cleaning", "regular cleaning"),
        ("move out", "move out cleaning"),
    ],
)
def test_a_word_that_several_choices_share_decides_nothing(heard: str, meant: str | None) -> None:
    assert read_choice(heard, ["regular cleaning", "deep cleaning", "move out cleaning"]) == meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("the first one", 0),
        ("The second, please.", 1),
        ("the last one", 2),
        ("number two", 1),
        ("option three", 2),
        ("any of them", 0),
        ("the earliest", 0),
        ("the fourth one", None),
        ("at nine", None),
    ],
)
def test_a_place_in_a_list_is_read(heard: str, meant: int | None) -> None:
    assert read_position(heard, 3) == meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("Anna Smith.", "Anna Smith"),
        ("anna smith", "Anna Smith"),
        ("My name is Anna Smith, please.", "Anna Smith"),
        ("It's Anna.", "Anna"),
        ("It's for Maria Lopez.", "Maria Lopez"),
        ("Under Rossi.", "Rossi"),
        ("A N N A", "Anna"),
        ("Yes, it's Jean-Luc O'Neill", "Jean-Luc O'Neill"),
        ("um, Peter", "Peter"),
        ("April Summers", "April Summers"),
        ("José Müller", "José Müller"),
        ("yeah it's sarah connor", "Sarah Connor"),
        ("my name is john it's john doe", "John Doe"),
        ("yes", None),
        ("thanks", None),
        ("no thank you", None),
        ("what do you mean", None),
        ("i'd rather not say", None),
        ("Thursday at three", None),
        ("no", None),
        ("", None),
    ],
)
def test_a_name_that_was_asked_for_is_read(heard: str, meant: str | None) -> None:
    assert read_name(heard, asked=True) == meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("Hi, this is Anna Smith and I'd like a haircut", "Anna Smith"),
        ("my name is Tom", "Tom"),
        ("no i meant the name is thomas", "Thomas"),
        ("book a haircut for Anna", "Anna"),
        ("book a haircut for Thursday at three", None),
        ("a table for April the third", None),
        ("I'm looking for a haircut", None),
        ("Anna Smith", None),
        ("I'm calling about a viewing", None),
    ],
)
def test_a_name_that_was_not_asked_for_must_be_told_as_one(heard: str, meant: str | None) -> None:
    assert read_name(heard, asked=False) == meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("Four one five, five five five, oh one two three.", "4155550123"),
        ("415 555 0123", "4155550123"),
        ("(415) 555-0123", "4155550123"),
        ("one four one five five five five oh one two three", "4155550123"),
        ("my number is 415-555-0123 thanks", "4155550123"),
        ("four one five triple five oh one double two", "4155550122"),
        ("415 double five 50123", "4155550123"),
        ("it's for one five five five five zero one two three", None),
        # A recogniser has lost one of three equal digits: the number is asked for again, never guessed.
        ("four one five, five five, oh one two three", None),
        ("415 55 0123", None),
        ("555 0123", None),
        ("", None),
        ("I don't know it", None),
    ],
)
def test_a_telephone_number_is_read_whole_or_not_at_all(heard: str, meant: str | None) -> None:
    assert read_phone(heard) == meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("anna dot smith at example dot com", "anna.smith@example.com"),
        ("It's anna@example.com.", "anna@example.com"),
        ("My email is ben underscore two at mail dot example dot org", "ben_2@mail.example.org"),
        ("sales dash team at example dot co dot uk", "sales-team@example.co.uk"),
        ("anna at home", None),
        ("no e-mail", None),
        ("", None),
    ],
)
def test_an_email_address_is_read_as_it_is_said(heard: str, meant: str | None) -> None:
    assert read_email(heard) == meant


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("Three, I think.", 3),
        ("about twenty five", 25),
        ("four hundred and fifty thousand", 450_000),
        ("12", 12),
        ("a hundred", 100),
        ("two thousand one hundred", 2100),
        ("none", None),
    ],
)
def test_a_number_is_read(heard: str, meant: int | None) -> None:
    assert read_number(heard) == meant


def test_a_telephone_number_is_taken_out_before_times_are_read() -> None:
    assert without_phone("Thursday at three, my number is 415 555 0123") == "thursday at three my number is"


@pytest.mark.parametrize(
    ("heard", "ask", "meant"),
    [
        ("a table for six on saturday", "For how many people?", 6),
        ("there will be four of us", "For how many people?", 4),
        ("we're seven people now", "For how many people?", 7),
        ("two bedrooms", "How many bedrooms do you need?", 2),
        ("a table at seven", "For how many people?", None),
        ("for seven thirty", "For how many people?", None),
        ("three bathrooms", "How many bedrooms do you need?", None),
    ],
)
def test_a_count_that_was_not_asked_for_is_read_where_it_says_of_what(heard: str, ask: str, meant: int | None) -> None:
    assert read_count(heard, ask) == meant


@pytest.mark.parametrize(
    ("name", "choices"), [("brent young", ["buy", "rent"]), ("max", ["exam", "cleaning"]), ("phil lang", ["filling"])]
)
def test_a_name_is_no_choice(name: str, choices: list[str]) -> None:
    assert read_choice(name, choices, is_exact=True) is None


def test_apostrophes_are_put_back_where_recognisers_leave_them_out() -> None:
    assert with_apostrophes("thats it im done, dont call") == "that's it I'm done, don't call"
