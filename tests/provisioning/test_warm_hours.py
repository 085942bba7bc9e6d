"""Warm hours on the clocks of a tenant: midnight, the end of the week, and the nights on which clocks are changed."""

from __future__ import annotations

import datetime
import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from provisioning.warm_hours import Kept, WarmHours, WarmWindow, WindowRefused, days_words, read_windows

NEW_YORK, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")
WORKDAYS = [0, 1, 2, 3, 4]


def window(days: list[int], begins_at: str, ends_at: str, least: int = 2, reserve: int = 0) -> dict[str, Any]:
    return {
        "days": days,
        "begins_at": begins_at,
        "ends_at": ends_at,
        "min_containers": least,
        "buffer_containers": reserve,
    }


def hours(zone: ZoneInfo, *windows: dict[str, Any]) -> WarmHours:
    return WarmHours(read_windows(list(windows)), zone, Kept(0, 0))


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


def minutes_warm(schedule: WarmHours, first: str, last: str) -> list[str]:
    """Return the changes between two moments, each as `time warm`, found by asking minute after minute."""
    at, until, found, before = utc(first), utc(last), [], None
    while at <= until:
        held = schedule.window_at(at)
        now = held.min_containers if held else 0
        if now != before:
            found.append(f"{at:%H:%M} {now}")
        before, at = now, at + datetime.timedelta(minutes=1)
    return found


def test_a_window_holds_on_its_days_and_between_its_times() -> None:
    schedule = hours(BERLIN, window(WORKDAYS, "08:00", "18:00", 2, 1))
    for at, warm in (
        ("2026-11-24T06:59", False),  # a Tuesday; Berlin is an hour ahead
        ("2026-11-24T07:00", True),
        ("2026-11-24T16:59", True),
        ("2026-11-24T17:00", False),
        ("2026-11-28T10:00", False),  # a Saturday
    ):
        assert (schedule.window_at(utc(at)) is not None) is warm, at


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    schedule = hours(BERLIN, window([4], "22:00", "06:00"))
    assert schedule.window_at(utc("2026-11-26T22:00")) is None  # Friday, 23:00 is still to come
    assert schedule.window_at(utc("2026-11-27T21:00")) is not None
    assert schedule.window_at(utc("2026-11-28T04:59")) is not None
    assert schedule.window_at(utc("2026-11-28T05:00")) is None


def test_a_window_goes_over_the_end_of_the_week_and_meets_the_next() -> None:
    schedule = hours(BERLIN, window([6], "20:00", "08:00", 1), window([0], "08:00", "20:00", 3))
    assert minutes_warm(schedule, "2026-11-29T18:00", "2026-11-30T20:00") == [
        "18:00 0",
        "19:00 1",
        "07:00 3",
        "19:00 0",
    ]


def test_a_whole_week_of_whole_days_never_changes() -> None:
    schedule = hours(NEW_YORK, window(list(range(7)), "00:00", "00:00", 1))
    assert schedule.next_change(utc("2026-11-24T12:00")) is None
    assert minutes_warm(schedule, "2026-10-31T00:00", "2026-11-03T00:00") == ["00:00 1"]


def test_no_windows_hold_never() -> None:
    schedule = hours(BERLIN)
    assert schedule.window_at(utc("2026-11-24T12:00")) is None
    assert schedule.next_change(utc("2026-11-24T12:00")) is None


def test_the_next_change_is_told_over_a_weekend_and_past_windows_that_keep_the_same() -> None:
    schedule = hours(
        BERLIN,
        window(WORKDAYS, "08:00", "12:00", 2),
        window(WORKDAYS, "12:00", "18:00", 2),
        window([5], "10:00", "12:00", 1),
    )
    change = schedule.next_change(utc("2026-11-24T08:00"))
    assert change == (utc("2026-11-24T17:00"), Kept(0, 0))
    assert schedule.next_change(utc("2026-11-28T12:00")) == (utc("2026-11-30T07:00"), Kept(2, 0))


def test_a_window_that_keeps_what_is_kept_anyway_is_no_change() -> None:
    windows = read_windows([window([1], "08:00", "12:00", 1), window([1], "14:00", "15:00", 2)])
    schedule = WarmHours(windows, BERLIN, Kept(1, 0))
    assert schedule.next_change(utc("2026-11-24T06:00")) == (utc("2026-11-24T13:00"), Kept(2, 0))


def test_a_window_of_one_day_a_week_is_found_a_week_ahead() -> None:
    schedule = hours(BERLIN, window([1], "08:00", "09:00"))
    at, _ = schedule.next_change(utc("2026-11-24T08:00")) or (None, None)
    assert at == utc("2026-12-01T07:00")


# --- the nights on which clocks are changed --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("zone", "begins", "summer"),
    [(NEW_YORK, ("2026-03-06T13:00", "2026-03-09T12:00"), -4), (BERLIN, ("2026-03-27T07:00", "2026-03-30T06:00"), 2)],
)
def test_a_window_keeps_to_the_clock_when_summer_time_begins(
    zone: ZoneInfo, begins: tuple[str, str], summer: int
) -> None:
    schedule = hours(zone, window(WORKDAYS, "08:00", "18:00"))
    for begin in map(utc, begins):  # the Friday before, and the Monday after
        assert schedule.window_at(begin - datetime.timedelta(minutes=1)) is None
        assert schedule.window_at(begin) is not None
    assert begin.astimezone(zone).utcoffset() == datetime.timedelta(hours=summer)


def test_an_hour_that_is_skipped_is_left_out_in_new_york() -> None:
    """On 8 March 2026 clocks go from 02:00 EST (07:00 UTC) to 03:00 EDT."""
    night = ("2026-03-08T06:00", "2026-03-08T09:00")
    assert minutes_warm(hours(NEW_YORK, window([6], "02:30", "04:00")), *night) == ["06:00 0", "07:00 2", "08:00 0"]
    assert minutes_warm(hours(NEW_YORK, window([6], "01:30", "02:30")), *night) == ["06:00 0", "06:30 2", "07:00 0"]
    assert minutes_warm(hours(NEW_YORK, window([6], "02:00", "03:00")), *night) == ["06:00 0"]
    assert minutes_warm(hours(NEW_YORK, window([6], "02:00", "03:00")), "2026-03-15T05:30", "2026-03-15T09:00") == [
        "05:30 0", "06:00 2", "07:00 0"
    ]  # fmt: skip


def test_an_hour_that_comes_twice_begins_and_ends_windows_once_in_berlin() -> None:
    """On 25 October 2026 clocks go from 03:00 CEST (01:00 UTC) back to 02:00 CET."""
    night = ("2026-10-24T23:00", "2026-10-25T03:00")
    assert minutes_warm(hours(BERLIN, window([6], "02:30", "03:30")), *night) == ["23:00 0", "00:30 2", "02:30 0"]
    assert minutes_warm(hours(BERLIN, window([6], "01:30", "02:30")), *night) == ["23:00 0", "23:30 2", "00:30 0"]
    meeting = hours(BERLIN, window([6], "01:00", "02:30", 1), window([6], "02:30", "04:00", 3))
    assert minutes_warm(meeting, *night) == ["23:00 1", "00:30 3", "03:00 0"]


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN, ZoneInfo("Africa/Cairo"), ZoneInfo("Australia/Lord_Howe")])
def test_windows_that_meet_leave_no_gap_and_do_not_overlap_on_any_day_of_the_year(zone: ZoneInfo) -> None:
    times = ["00:00", "02:15", "02:45", "13:00", "00:00"]
    schedule = hours(
        zone, *(window(list(range(7)), *pair, least) for least, pair in enumerate(itertools.pairwise(times), 1))
    )
    stretches = sorted((begin, end) for begin, end, _ in schedule._stretches(utc("2026-01-01T00:00"), days_ahead=365))
    assert len(stretches) == 4 * 367
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(stretches))


# --- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        (
            [window([0], "08:00", "18:00"), window([0, 1], "17:59", "20:00")],
            "Mon 08:00–18:00 and Mon–Tue 17:59–20:00 overlap",
        ),
        ([window([6], "22:00", "06:00"), window([0], "05:00", "07:00")], "Sun 22:00–06:00 and Mon 05:00–07:00 overlap"),
        ([window([0], "08:00", "09:00"), window([0], "08:00", "09:00")], "overlap"),
        ([window([0, 1], "10:00", "10:00"), window([1], "09:00", "11:00")], "overlap"),
        ([window([], "08:00", "18:00")], "at least one day"),
        ([window([7], "08:00", "18:00")], "at least one day"),
        ([window([0], "8 o'clock", "18:00")], "two times like 08:00"),
        ([window([0], "08:00", "18:00", -1)], "from 0 to 100"),
        ([window([0], "08:00", "18:00", 1, 101)], "from 0 to 100"),
        ([{"days": [0]}], "A window has days"),
        (["always"], "A window has days"),
        ("always", "a list of up to"),
        ([window([0], "08:00", "09:00")] * 22, "a list of up to 21"),
    ],
)
def test_what_cannot_be_kept_is_refused(windows: Any, sentence: str) -> None:
    with pytest.raises(WindowRefused, match=sentence):
        read_windows(windows)


def test_windows_may_meet() -> None:
    assert (
        len(read_windows([window([0], "08:00", "12:00"), window([0], "12:00", "08:00"), window([1], "08:00", "08:00")]))
        == 3
    )


def test_windows_read_as_they_were_written() -> None:
    (read,) = read_windows([window([4, 0, 1, 2, 3], "08:00", "18:00", 2, 1)])
    assert read == WarmWindow((0, 1, 2, 3, 4), datetime.time(8), datetime.time(18), 2, 1)
    assert str(read) == "Mon–Fri 08:00–18:00: 2 warm, 1 in reserve"
    assert read_windows([read.to_document()]) == (read,)


@pytest.mark.parametrize(
    ("days", "words"),
    [([0, 1, 2, 3, 4], "Mon–Fri"), ([0, 2, 5, 6], "Mon, Wed, Sat–Sun"), (list(range(7)), "Every day"), ([3], "Thu")],
)
def test_days_are_told_in_runs(days: list[int], words: str) -> None:
    assert days_words(days) == words
