"""Dates and times as callers say them. The clock stands at nine on Monday, the second of March 2026."""

from __future__ import annotations

import datetime

import pytest

from gpu_workers.cascade.brain.hearing.times import Moment, read_moment
from tests.gpu_workers.brain.conversations import MONDAY

WHOLE = [
    ("next Tuesday at three thirty in the afternoon", "2026-03-10T15:30"),
    ("Thursday at three", "2026-03-05T15:00"),
    ("tomorrow at nine", "2026-03-03T09:00"),
    ("the twenty fourth of November at 10 AM", "2026-11-24T10:00"),
    ("November 24th at 3:30 p.m.", "2026-11-24T15:30"),
    ("half past nine on Friday", "2026-03-06T09:30"),
    ("quarter to four tomorrow", "2026-03-03T15:45"),
    ("in two weeks at noon", "2026-03-16T12:00"),
    ("in two weeks on Monday at ten", "2026-03-16T10:00"),
    ("in two weeks on Thursday at ten", "2026-03-19T10:00"),
    ("the day after tomorrow at eleven", "2026-03-04T11:00"),
    ("March 12th, ten thirty", "2026-03-12T10:30"),
    ("Wednesday at two pm", "2026-03-04T14:00"),
    ("Saturday the seventh at one o'clock", "2026-03-07T13:00"),
    ("tomorrow afternoon at four", "2026-03-03T16:00"),
    ("Friday 4 PM", "2026-03-06T16:00"),
    ("this Friday at five in the evening", "2026-03-06T17:00"),
    ("ten past three on Thursday", "2026-03-05T15:10"),
    ("Tuesday next week at eight in the morning", "2026-03-10T08:00"),
    ("on the fifteenth at 2", "2026-03-15T14:00"),
    ("in three days at 9:15", "2026-03-05T09:15"),
    ("May fifth at eleven forty five", "2026-05-05T11:45"),
    ("a week from Tuesday at ten", "2026-03-10T10:00"),
    ("Thursday at seven thirty in the morning", "2026-03-05T07:30"),
    ("today at 5:30", "2026-03-02T17:30"),
    ("14:30 tomorrow", "2026-03-03T14:30"),
    ("in two hours", "2026-03-02T11:00"),
    ("in half an hour", "2026-03-02T09:30"),
    ("How about Thursday, at 3 o'clock?", "2026-03-05T15:00"),
    ("twenty to five tomorrow", "2026-03-03T16:40"),
    ("I'd like Thursday at three please", "2026-03-05T15:00"),
    ("Hi, I'd like to book a haircut for Thursday at three.", "2026-03-05T15:00"),
    ("Next Friday, 11 a.m.", "2026-03-13T11:00"),
    ("March the third at noon", "2026-03-03T12:00"),
    ("tomorrow at eight pm", "2026-03-03T20:00"),
    ("Can I come on the first of April at nine?", "2026-04-01T09:00"),
    ("next Thursday at half past two", "2026-03-12T14:30"),
    ("Monday at nine", "2026-03-09T09:00"),
    ("one thirty on Wednesday", "2026-03-04T13:30"),
    ("three oh five tomorrow", "2026-03-03T15:05"),
    ("Sunday at twelve", "2026-03-08T12:00"),
    ("book a haircut next Tuesday at three for Anna", "2026-03-10T15:00"),
    ("tomorrow 3", "2026-03-03T15:00"),
    ("December 1st at four fifteen", "2026-12-01T16:15"),
    # The clocks change on the eighth: a wall clock's times are what they are.
    ("Sunday the eighth at two thirty in the morning", "2026-03-08T02:30"),
    ("January fifth at ten", "2027-01-05T10:00"),
    ("tonight at eight", "2026-03-02T20:00"),
    ("tomorrow morning at ten", "2026-03-03T10:00"),
    ("Friday at seven at night", "2026-03-06T19:00"),
    ("Good morning, a table for two on Friday at seven", "2026-03-06T19:00"),
    ("for four people tomorrow at one", "2026-03-03T13:00"),
    ("make it Thursday for five", "2026-03-05T17:00"),
]


@pytest.mark.parametrize(("heard", "meant"), WHOLE)
def test_a_date_and_a_time_are_read(heard: str, meant: str) -> None:
    assert read_moment(heard, MONDAY).whole == datetime.datetime.fromisoformat(meant)


@pytest.mark.parametrize(
    ("heard", "date", "part_of_day"),
    [
        ("Thursday morning", "2026-03-05", "morning"),
        ("tomorrow afternoon", "2026-03-03", "afternoon"),
        ("some time on Friday evening", "2026-03-06", "evening"),
        ("tonight", "2026-03-02", "tonight"),
        ("this afternoon", "2026-03-02", "afternoon"),
        ("in the morning", None, "morning"),
    ],
)
def test_a_part_of_the_day_is_no_time_yet(heard: str, date: str | None, part_of_day: str) -> None:
    said = read_moment(heard, MONDAY)
    assert (said.is_vague, said.part_of_day, said.whole) == (True, part_of_day, None)
    assert said.date == (datetime.date.fromisoformat(date) if date else None)


@pytest.mark.parametrize(
    ("heard", "date", "time"),
    [
        ("nine thirty", None, "09:30"),
        ("tomorrow", "2026-03-03", None),
        ("Thursday", "2026-03-05", None),
        ("the twentieth", "2026-03-20", None),
        ("at four", None, "16:00"),
        ("noon", None, "12:00"),
    ],
)
def test_half_of_it_is_kept(heard: str, date: str | None, time: str | None) -> None:
    said = read_moment(heard, MONDAY)
    assert said.date == (datetime.date.fromisoformat(date) if date else None)
    assert said.time == (datetime.time.fromisoformat(time) if time else None)


@pytest.mark.parametrize(
    "heard",
    [
        "",
        "the second one",
        "I have two kids",
        "haircut",
        "yes",
        "five five five oh one two",
        "my name is April Summers",
        "I may be late",
        "a table for four people",
    ],
)
def test_what_tells_no_time_is_not_taken_for_one(heard: str) -> None:
    said = read_moment(heard, MONDAY)
    assert (said.date, said.time) == (None, None)


@pytest.mark.parametrize(
    ("earlier", "later", "whole"),
    [
        ("Thursday", "at three", "2026-03-05T15:00"),
        ("at three", "on Thursday", "2026-03-05T15:00"),
        ("Thursday morning", "seven thirty", "2026-03-05T07:30"),
        ("Thursday at three", "no, Friday", "2026-03-06T15:00"),
        ("Thursday at three", "half past four", "2026-03-05T16:30"),
    ],
)
def test_two_halves_make_a_whole(earlier: str, later: str, whole: str) -> None:
    joined = read_moment(later, MONDAY).joined(read_moment(earlier, MONDAY))
    assert joined.whole == datetime.datetime.fromisoformat(whole)


@pytest.mark.parametrize(
    ("heard", "from_hour", "time"),
    [
        ("at eight", 8, "08:00"),
        ("at eight", 11, "20:00"),
        ("at seven", 8, "19:00"),
        ("at seven", 6, "07:00"),
        ("at eight in the morning", 11, "08:00"),
        ("at noon", 11, "12:00"),
        ("at eleven", 11, "11:00"),
    ],
)
def test_a_bare_hour_lies_in_the_hours_of_the_business(heard: str, from_hour: int, time: str) -> None:
    assert read_moment(heard, MONDAY, from_hour=from_hour).time == datetime.time.fromisoformat(time)


def test_nothing_joined_with_nothing_is_nothing() -> None:
    assert Moment().joined(Moment()) == Moment()


@pytest.mark.parametrize(
    ("heard", "date"),
    [
        ("from thursday to friday at two", "2026-03-06"),
        ("move it from tuesday to next wednesday", "2026-03-11"),
        ("not thursday friday", "2026-03-06"),
        ("instead of tomorrow on saturday", "2026-03-07"),
        ("why not thursday", "2026-03-05"),
    ],
)
def test_a_day_that_is_given_up_is_not_the_day_that_is_meant(heard: str, date: str) -> None:
    assert read_moment(heard, MONDAY).date == datetime.date.fromisoformat(date)


@pytest.mark.parametrize("heard", ["make it eleven", "can you make that eleven"])
def test_a_bare_number_is_a_time_where_something_is_made_that(heard: str) -> None:
    assert read_moment(heard, MONDAY).time == datetime.time(11)
