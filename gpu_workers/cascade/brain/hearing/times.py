"""A small grammar of spoken times, and of dates with times.

Times are a business's: an hour said without `morning` or `evening` lies in the twelve from `from_hour` on. Everything
is read against `now`, the business's own wall clock.
"""

from __future__ import annotations

import dataclasses
import datetime
import re

from gpu_workers.cascade.brain.hearing.dates import OLD_DAY, read_date
from gpu_workers.cascade.brain.hearing.words import UNITS, number_at, words_of

PARTS_OF_DAY = {
    "morning": (9, 0),
    "noon": (12, 0),
    "midday": (12, 0),
    "lunchtime": (12, 0),
    "afternoon": (14, 0),
    "evening": (18, 0),
    "tonight": (18, 0),
}
_BEFORE_HOUR = {"at", "around", "about", "by", "say", "after", "make", "meant", "mean"}
_COUNTED = {
    "people",
    "persons",
    "guests",
    "adults",
    "children",
    "kids",
    "of",
    "users",
    "bedrooms",
    "rooms",
    "dollars",
    "minutes",
    "hours",
    "days",
    "weeks",
    "months",
    "years",
}
FROM_HOUR = 8
EARLIEST_MORNING = 5
"""Said after `in the morning`, `seven` is before noon; `three` is another wish."""
_FILLERS = {
    "at",
    "around",
    "about",
    "on",
    "the",
    "of",
    "a",
    "in",
    "for",
    "say",
    "maybe",
    "like",
    "by",
    "please",
    "or",
    "so",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """What was said of a time: either part may be missing. `is_vague`: only a part of the day was said."""

    date: datetime.date | None = None
    time: datetime.time | None = None
    is_vague: bool = False
    part_of_day: str = ""

    def joined(self, earlier: Moment) -> Moment:
        """Return this with what is missing taken from what was said earlier."""
        time, part = self.time, self.part_of_day or earlier.part_of_day
        if time is None:
            return Moment(self.date or earlier.date, earlier.time, earlier.is_vague, part)
        if (
            self.part_of_day == ""
            and earlier.is_vague
            and earlier.part_of_day == "morning"
            and EARLIEST_MORNING <= time.hour - 12 < 8
        ):
            time = time.replace(hour=time.hour - 12)
        if (part == "morning") != (time.hour < 12):
            part = self.part_of_day
        return Moment(self.date or earlier.date, time, self.is_vague, part)

    @property
    def is_empty(self) -> bool:
        return self.date is None and self.time is None

    @property
    def whole(self) -> datetime.datetime | None:
        if self.date is None or self.time is None or self.is_vague:
            return None
        return datetime.datetime.combine(self.date, self.time)


def read_moment(heard: str, now: datetime.datetime, *, from_hour: int = FROM_HOUR) -> Moment:
    """Return the date and the time in an utterance, each where it was said."""
    words = words_of(OLD_DAY.sub("", re.sub(r"(?i)\bgood (morning|afternoon|evening|night)\b", "", heard)))
    if read := _read_relative(words, now):
        return read
    date, used = read_date(words, now)
    time, is_vague, part = _read_time([word for index, word in enumerate(words) if index not in used], from_hour)
    if date is None and "tonight" in words:
        date = now.date()
    return Moment(date, time, is_vague, part)


def _read_relative(words: list[str], now: datetime.datetime) -> Moment | None:
    """`in two hours`, `in half an hour`."""
    text = " ".join(words)
    if "half an hour" in text and "in half" in text:
        at = now + datetime.timedelta(minutes=30)
        return Moment(at.date(), at.time().replace(second=0, microsecond=0))
    for index, word in enumerate(words[:-2]):
        if word != "in":
            continue
        count = (1, 1) if words[index + 1] in ("a", "an") else number_at(words, index + 1)
        unit = words[index + 1 + count[1]] if count and index + 1 + count[1] < len(words) else ""
        if count and unit.startswith(("hour", "minute")):
            at = now + datetime.timedelta(**{"hours" if unit.startswith("hour") else "minutes": count[0]})
            return Moment(at.date(), at.time().replace(second=0, microsecond=0))
    return None


def _read_time(words: list[str], from_hour: int) -> tuple[datetime.time | None, bool, str]:
    """Return the time, whether only a part of the day was said, and that part."""
    part = next((word for word in words if word in PARTS_OF_DAY), "")
    if "night" in words:
        part = part or "evening"
    found = _clock(words)
    if found is None:
        if part in ("noon", "midday"):
            return datetime.time(12), False, part
        if part:
            return datetime.time(*PARTS_OF_DAY[part]), True, part
        return None, False, ""
    hour, minute, said = found
    if said == "pm" or (said == "" and part in ("afternoon", "evening", "tonight")):
        hour = hour % 12 + 12
    elif said == "am" or (said == "" and part == "morning"):
        hour = hour % 12 if hour == 12 else hour
    elif said == "" and 1 <= hour < from_hour:
        hour += 12
    return (datetime.time(hour, minute), False, part) if hour < 24 and minute < 60 else (None, False, part)


def _clock(words: list[str]) -> tuple[int, int, str] | None:
    """Return (hour, minute, `am`, `pm`, `24h` or ``) of the first time of day."""
    for index, word in enumerate(words):
        if match := re.fullmatch(r"(\d{1,2}):(\d\d)", word):
            hour = int(match[1])
            return hour, int(match[2]), _half(words, index + 1) or ("24h" if hour > 12 or hour == 0 else "")
        if word in ("half", "quarter") and index + 2 < len(words) + 1:
            if found := _relative_clock(words, index):
                return found
    # `for` tells a time only where nothing else does: `for two at seven`.
    return _numeric_clock(words, _BEFORE_HOUR) or _numeric_clock(words, {*_BEFORE_HOUR, "for"})


def _numeric_clock(words: list[str], before_hour: set[str]) -> tuple[int, int, str] | None:
    """`three thirty`, `at nine`, `four pm`."""
    for index, word in enumerate(words):
        if found := _minutes_past(words, index):
            return found
        number = number_at(words, index)
        if number is None or not 0 <= number[0] <= 23 or word == "zero":
            continue
        hour, end = number[0], index + number[1]
        # Digits in a row are a telephone number's; counted things and tables for so many are no hours.
        is_row = index > 0 and (words[index - 1].isdigit() or 0 < UNITS.get(words[index - 1], 0) < 10)
        if (
            is_row
            or words[end : end + 1]
            and words[end] in _COUNTED
            or words[max(0, index - 2) : index] == ["table", "for"]
        ):
            continue
        # `twenty fifteen`? Hours above twelve are only said with minutes, on a 24-hour clock.
        minute = _minute_at(words, end)
        if minute is not None:
            end += minute[1]
            return hour, minute[0], _half(words, end) or ("24h" if hour > 12 else "")
        half = _half(words, end)
        before = words[index - 1] if index else ""
        following = words[end] if end < len(words) else ""
        is_made = words[max(0, index - 2) : index] in (["make", "it"], ["make", "that"])
        if (
            half
            or is_made
            or following == "o'clock"
            or before in before_hour
            or (all(each in _FILLERS | set(PARTS_OF_DAY) for each in [*words[:index], *words[end:]]))
            or following in ("in", "tomorrow", "works", "would", "is", "please", "then", "instead")
        ):
            if 1 <= hour <= 12:
                return hour, 0, half or (_half(words, end + 1) if following == "o'clock" else "")
            if 13 <= hour <= 23 and before == "at":
                return hour, 0, "24h"
    return None


def _relative_clock(words: list[str], index: int) -> tuple[int, int, str] | None:
    """`half past nine`, `quarter to four`, `half nine`."""
    minute = 30 if words[index] == "half" else 15
    position = index + 1
    relation = words[position] if position < len(words) else ""
    if relation in ("past", "after", "to", "of", "till", "before"):
        position += 1
    elif minute == 15:
        return None
    number = number_at(words, position) if position < len(words) else None
    if number is None or not 1 <= number[0] <= 12:
        return None
    half = _half(words, position + number[1])
    if relation in ("to", "of", "till", "before"):
        return (number[0] - 1 or 12), 60 - minute, half
    return number[0], minute, half


def _minutes_past(words: list[str], index: int) -> tuple[int, int, str] | None:
    """`ten past three`, `twenty to five`."""
    minute = number_at(words, index)
    if minute is None or not 1 <= minute[0] < 60:
        return None
    position = index + minute[1]
    if words[position : position + 1] == ["minutes"]:
        position += 1
    if position + 1 >= len(words) or words[position] not in ("past", "after", "to", "till"):
        return None
    hour = number_at(words, position + 1)
    if hour is None or not 1 <= hour[0] <= 12 or (words[position] == "to" and minute[0] % 5):
        return None
    half = _half(words, position + 1 + hour[1])
    if words[position] in ("to", "till"):
        return (hour[0] - 1 or 12), 60 - minute[0], half
    return hour[0], minute[0], half


def _minute_at(words: list[str], position: int) -> tuple[int, int] | None:
    """`thirty`, `oh five`, `forty five` after an hour."""
    if position >= len(words):
        return None
    if (
        words[position] in ("oh", "o", "zero")
        and position + 1 < len(words)
        and 0 < UNITS.get(words[position + 1], 0) < 10
    ):
        return UNITS[words[position + 1]], 2
    number = number_at(words, position)
    return number if number and 10 <= number[0] <= 59 else None


def _half(words: list[str], position: int) -> str:
    """`am` or `pm`, also as `in the morning`, `in the afternoon`, `at night`."""
    following = words[position : position + 3]
    if following[:1] in (["am"], ["pm"]):
        return following[0]
    if following[:2] == ["o'clock"] or following[:1] == ["o'clock"]:
        return _half(words, position + 1)
    if following == ["in", "the", "morning"]:
        return "am"
    if following in (["in", "the", "afternoon"], ["in", "the", "evening"]) or following[:2] == ["at", "night"]:
        return "pm"
    return ""
