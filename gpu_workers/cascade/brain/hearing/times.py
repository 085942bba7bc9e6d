"""A small grammar of spoken dates and times.

Times are a business's: an hour said without `morning` or `evening` lies in the twelve from `from_hour` on. Everything
is read against `now`, the business's own wall clock.
"""

from __future__ import annotations

import dataclasses
import datetime
import re

from gpu_workers.cascade.brain.hearing.words import UNITS, number_at, ordinal_of, words_of

WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_WEEKDAY = (
    {name: index for index, name in enumerate(WEEKDAYS)}
    | {
        name[:length]: index
        for index, name in enumerate(WEEKDAYS)
        for length in (3, 4)
        if name[:length] not in ("sun", "sat")
    }
    | {name + "s": index for index, name in enumerate(WEEKDAYS)}
    | {"thurs": 3, "tues": 1}
)
_MONTH = {name: index + 1 for index, name in enumerate(MONTHS)} | {
    name[:3]: index + 1 for index, name in enumerate(MONTHS) if name != "may"
}
PARTS_OF_DAY = {
    "morning": (9, 0),
    "noon": (12, 0),
    "midday": (12, 0),
    "lunchtime": (12, 0),
    "afternoon": (14, 0),
    "evening": (18, 0),
    "tonight": (18, 0),
}
_BEFORE_HOUR = {"at", "around", "about", "by", "say", "after", "make"}
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
        if self.part_of_day == "" and earlier.is_vague and earlier.part_of_day == "morning" and 12 < time.hour < 20:
            time = time.replace(hour=time.hour - 12)
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
    words = words_of(re.sub(r"(?i)\bgood (morning|afternoon|evening|night)\b", "", heard))
    if read := _read_relative(words, now):
        return read
    date, used = _read_date(words, now)
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


# --- dates -----------------------------------------------------------------------------------------------------------
def _read_date(words: list[str], now: datetime.datetime) -> tuple[datetime.date | None, set[int]]:
    """Return the date and which words told it."""
    for reader in (_calendar_date, _counted_date, _named_day, _weekday, _day_of_month):
        if found := reader(words, now.date()):
            return found
    return None, set()


Found = tuple[datetime.date, set[int]]


def _calendar_date(words: list[str], today: datetime.date) -> Found | None:
    """`march third`, `the twenty fourth of november`, `november 24`, `11/24` as two numbers is left alone."""
    for index, word in enumerate(words):
        month = _MONTH.get(word)
        if month is None or word == "may" and not _neighbours_a_day(words, index):
            continue
        after = _day_at(words, index + 1) or (
            _day_at(words, index + 2) if words[index + 1 : index + 2] == ["the"] else None
        )
        if after:
            start = index + 1 if _day_at(words, index + 1) else index + 2
            return _next_date(month, after[0], today), {index, *range(index + 1, start + after[1])}
        before_end = index - 1 if index and words[index - 1] == "of" else index
        if before := _day_ending(words, before_end):
            return _next_date(month, before[0], today), set(range(before_end - before[1], index + 1))
    return None


def _neighbours_a_day(words: list[str], index: int) -> bool:
    return bool(_day_at(words, index + 1) or (index and words[index - 1] == "of") or _day_ending(words, index))


def _day_at(words: list[str], position: int) -> tuple[int, int] | None:
    """Return (day of month, number of words) that begins here."""
    if position >= len(words):
        return None
    word, following = words[position], words[position + 1] if position + 1 < len(words) else ""
    if word in ("twenty", "thirty") and (unit := ordinal_of(following)) and unit < 10:
        day, length = (20 if word == "twenty" else 30) + unit, 2
    elif ordinal := ordinal_of(word):
        day, length = ordinal, 1
    elif (number := number_at(words, position)) and ":" not in following and following not in ("am", "pm", "o'clock"):
        day, length = number
    else:
        return None
    return (day, length) if 1 <= day <= 31 else None


def _day_ending(words: list[str], end: int) -> tuple[int, int] | None:
    for length in (2, 1):
        if end - length >= 0 and (found := _day_at(words, end - length)) and found[1] == length:
            return found
    return None


def _next_date(month: int, day: int, today: datetime.date) -> datetime.date:
    for year in (today.year, today.year + 1):
        try:
            date = datetime.date(year, month, day)
        except ValueError:
            continue
        if date >= today:
            return date
    return datetime.date(today.year + 1, month, min(day, 28))


def _counted_date(words: list[str], today: datetime.date) -> Found | None:
    """`in three days`, `in two weeks`, `a week from tuesday`, `tuesday week`."""
    for index, word in enumerate(words):
        if word == "in" and index + 2 < len(words):
            count = (1, 1) if words[index + 1] in ("a", "an") else number_at(words, index + 1)
            if count and index + 1 + count[1] < len(words):
                unit = words[index + 1 + count[1]]
                used = set(range(index, index + 2 + count[1]))
                if unit.startswith("day"):
                    return today + datetime.timedelta(days=count[0]), used
                if unit.startswith("week"):
                    base = today + datetime.timedelta(weeks=count[0])
                    day = next((_WEEKDAY[each] for each in words if each in _WEEKDAY), None)
                    if day is not None:
                        base += datetime.timedelta(days=day - base.weekday())
                    return base, used | {position for position, each in enumerate(words) if each in _WEEKDAY}
        if word == "week" and words[index + 1 : index + 2] == ["from"] and index + 2 < len(words):
            rest, used = _read_date(words[index + 2 :], datetime.datetime.combine(today, datetime.time()))
            if rest:
                return rest + datetime.timedelta(weeks=1), {index, index + 1, *(index + 2 + each for each in used)}
        if word == "week" and index and words[index - 1] in _WEEKDAY and words[index - 2 : index - 1] != ["next"]:
            return _coming(_WEEKDAY[words[index - 1]], today) + datetime.timedelta(weeks=1), {index - 1, index}
    return None


def _named_day(words: list[str], today: datetime.date) -> Found | None:
    text = " ".join(words)
    if "day after tomorrow" in text:
        start = words.index("day")
        return today + datetime.timedelta(days=2), {start, start + 1, start + 2}
    for name, days in (("tomorrow", 1), ("today", 0), ("tonight", 0)):
        if name in words:
            # `tonight` tells the time too.
            return today + datetime.timedelta(days=days), {words.index(name)} if name != "tonight" else set()
    if "this" in words and words[words.index("this") + 1 : words.index("this") + 2] in (
        ["morning"],
        ["afternoon"],
        ["evening"],
    ):
        return today, {words.index("this")}
    return None


def _weekday(words: list[str], today: datetime.date) -> Found | None:
    for index, word in enumerate(words):
        if word not in _WEEKDAY:
            continue
        date, used = _coming(_WEEKDAY[word], today), {index}
        before = words[index - 1] if index else ""
        if before == "next":
            used.add(index - 1)
            # `next Tuesday` is next week's; said at the end of a week it is the coming one, which is next week's too.
            if date.isocalendar()[:2] == today.isocalendar()[:2]:
                date += datetime.timedelta(weeks=1)
        elif before in ("this", "coming", "on"):
            used.add(index - 1)
        if (
            words[index + 1 : index + 3] == ["next", "week"]
            or words[max(0, index - 3) : index] == ["next", "week", "on"]
            or (words[max(0, index - 2) : index] == ["next", "week"])
        ):
            date = today + datetime.timedelta(days=7 - today.weekday() + _WEEKDAY[word])
            used |= {position for position, each in enumerate(words) if each in ("next", "week")}
        # `Tuesday the tenth`: the day of the month decides.
        after = index + 2 if words[index + 1 : index + 2] == ["the"] else index + 1
        if (day := _day_at(words, after)) and ordinal_of(words[after + day[1] - 1]):
            return _next_day_of_month(day[0], today), used | set(range(index, after + day[1]))
        return date, used
    return None


def _coming(weekday: int, today: datetime.date) -> datetime.date:
    return today + datetime.timedelta(days=(weekday - today.weekday()) % 7 or 7)


def _day_of_month(words: list[str], today: datetime.date) -> Found | None:
    """`the fifteenth`."""
    for index, _ in enumerate(words):
        day = _day_at(words, index)
        if day and ordinal_of(words[index + day[1] - 1]) and (index and words[index - 1] in ("the", "on")):
            # `the second one` picks from a list; it is no date.
            if words[index + day[1] : index + day[1] + 1] in (["one"], ["option"], ["time"]):
                continue
            return _next_day_of_month(day[0], today), set(range(index, index + day[1]))
    return None


def _next_day_of_month(day: int, today: datetime.date) -> datetime.date:
    year, month = today.year, today.month
    for _ in range(13):
        try:
            date = datetime.date(year, month, day)
        except ValueError:
            date = None
        if date is not None and date >= today:
            return date
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return today


# --- times -----------------------------------------------------------------------------------------------------------
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
        if (
            half
            or following == "o'clock"
            or before in before_hour
            or (all(each in _FILLERS | set(PARTS_OF_DAY) for each in [*words[:index], *words[end:]]))
            or following in ("in", "tomorrow", "works", "would", "is", "please", "then")
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
