"""Values as a voice says them: no digits, no signs."""

from __future__ import annotations

import datetime

import pytest

from gpu_workers.cascade.brain import speaking
from gpu_workers.cascade.brain.slots import say_value
from tests.gpu_workers.brain.conversations import MONDAY

TODAY = MONDAY.date()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "zero"),
        (7, "seven"),
        (20, "twenty"),
        (42, "forty two"),
        (100, "one hundred"),
        (115, "one hundred and fifteen"),
        (1000, "one thousand"),
        (1005, "one thousand and five"),
        (2100, "two thousand one hundred"),
        (450_000, "four hundred and fifty thousand"),
        (-3, "minus three"),
    ],
)
def test_numbers(value: int, words: str) -> None:
    assert speaking.say_number(value) == words


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("09:00", "nine in the morning"),
        ("12:00", "noon"),
        ("15:30", "three thirty in the afternoon"),
        ("18:05", "six oh five in the evening"),
        ("00:15", "twelve fifteen in the morning"),
    ],
)
def test_times(time: str, words: str) -> None:
    assert speaking.say_time(datetime.time.fromisoformat(time)) == words


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("2026-03-02", "today"),
        ("2026-03-03", "tomorrow"),
        ("2026-03-05", "Thursday, March fifth"),
        ("2026-11-24", "Tuesday, November twenty fourth"),
        ("2026-03-31", "Tuesday, March thirty first"),
    ],
)
def test_dates(date: str, words: str) -> None:
    assert speaking.say_date(datetime.date.fromisoformat(date), TODAY) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("4155550123", "four one five, five five five, zero one two three"),
        ("+14155550123", "four one five, five five five, zero one two three"),
        ("911", "nine one one"),
    ],
)
def test_telephone_numbers_digit_by_digit(number: str, words: str) -> None:
    assert speaking.say_phone(number) == words


@pytest.mark.parametrize(
    ("cents", "words"),
    [(4500, "forty five dollars"), (100, "one dollar"), (1250, "twelve dollars and fifty cents")],
)
def test_money(cents: int, words: str) -> None:
    assert speaking.say_money(cents) == words


def test_addresses_and_options() -> None:
    assert speaking.say_email("anna.smith@ex-ample.com") == "anna dot smith at ex dash ample dot com"
    assert speaking.join_options(["nine"]) == "nine"
    assert speaking.join_options(["nine", "ten"]) == "nine or ten"
    assert speaking.join_options(["nine", "ten", "eleven"]) == "nine, ten, or eleven"


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It is **$45** a cut.", "It is forty five dollars a cut."),
        ("That is $12.50.", "That is twelve dollars and fifty cents."),
        ("Call (415) 555-0123.", "Call four one five, five five five, zero one two three."),
        ("We open at 9:00 and close at 17:30.", "We open at nine and close at five thirty in the evening."),
        ("Come at 3:15 pm.", "Come at three fifteen in the afternoon."),
    ],
)
def test_what_a_language_model_writes_is_made_speakable(written: str, spoken: str) -> None:
    assert speaking.make_speakable(written) == spoken


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [
        ("2026-03-05T15:00", "starts_at", "Thursday, March fifth at three in the afternoon"),
        (4, "guests", "four"),
        (True, "is_blocking", "yes"),
        ("4155550123", "phone", "four one five, five five five, zero one two three"),
        ("Tessa T", "name", "Tessa T"),
        ("ann@example.com", "email", "ann at example dot com"),
        ("Tea", "service", "Tea"),
    ],
)
def test_a_value_is_said_by_its_kind(value: object, name: str, words: str) -> None:
    assert say_value(value, MONDAY, name=name) == words
