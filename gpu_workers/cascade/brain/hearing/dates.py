"""A small grammar of spoken dates, read against the business's own day."""

from __future__ import annotations

import datetime
import re

from gpu_workers.cascade.brain.hearing.words import number_at, ordinal_of

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
_DAY = rf"(?:{'|'.join([*WEEKDAYS, 'today', 'tomorrow'])})"
OLD_DAY = re.compile(
    rf"(?i)\bfrom (?:next |this )?{_DAY}\b(?= to (?:next |this |the )?\w)"
    rf"|(?<!why )\b(?:instead of|not)(?: on)? {_DAY}\b"
)
"""A day that is named because it is given up: `from Thursday to Friday`."""

Found = tuple[datetime.date, set[int]]


def read_date(words: list[str], now: datetime.datetime) -> tuple[datetime.date | None, set[int]]:
    """Return the date and which words told it."""
    for reader in (_calendar_date, _counted_date, _named_day, _weekday, _day_of_month):
        if found := reader(words, now.date()):
            return found
    return None, set()


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
            rest, used = read_date(words[index + 2 :], datetime.datetime.combine(today, datetime.time()))
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
