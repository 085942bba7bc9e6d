"""Values as they are said: dates, times, telephone numbers, money."""

from __future__ import annotations

import datetime
import re

from gpu_workers.cascade.brain.hearing.dates import MONTHS, WEEKDAYS
from gpu_workers.cascade.brain.hearing.words import ORDINALS, TENS, UNITS

_SMALL = {value: word for word, value in {**UNITS, **TENS}.items()}
_DIGITS = {str(value): word for word, value in UNITS.items() if value < 10}
_ORDINAL = {value: word for word, value in ORDINALS.items()}


def say_number(value: int) -> str:
    """Return a whole number below a million in words."""
    if value < 0:
        return f"minus {say_number(-value)}"
    if value in _SMALL:
        return _SMALL[value]
    if value < 100:
        return f"{_SMALL[value // 10 * 10]} {_SMALL[value % 10]}"
    if value < 1000:
        rest = value % 100
        return f"{_SMALL[value // 100]} hundred" + (f" and {say_number(rest)}" if rest else "")
    rest = value % 1000
    joint = " and " if 0 < rest < 100 else " "
    return f"{say_number(value // 1000)} thousand" + (f"{joint}{say_number(rest)}" if rest else "")


def say_ordinal(value: int) -> str:
    if value in _ORDINAL:
        return _ORDINAL[value]
    return f"{_SMALL[value // 10 * 10]} {_ORDINAL[value % 10]}"


def say_time(time: datetime.time) -> str:
    """Return `three thirty in the afternoon`, `noon`, `nine in the morning`."""
    if (time.hour, time.minute) == (12, 0):
        return "noon"
    hour = _SMALL[time.hour % 12 or 12]
    minute = (
        "" if time.minute == 0 else f" {say_number(time.minute)}" if time.minute >= 10 else f" oh {_SMALL[time.minute]}"
    )
    part = "in the morning" if time.hour < 12 else "in the afternoon" if time.hour < 17 else "in the evening"
    return f"{hour}{minute} {part}"


def say_date(date: datetime.date, today: datetime.date) -> str:
    """Return `today`, `tomorrow`, `Thursday` within this week, else `Thursday, the fifth of March`."""
    if date == today:
        return "today"
    if date == today + datetime.timedelta(days=1):
        return "tomorrow"
    weekday = WEEKDAYS[date.weekday()].capitalize()
    return f"{weekday}, {MONTHS[date.month - 1].capitalize()} {say_ordinal(date.day)}"


def say_moment(at: datetime.datetime, today: datetime.date) -> str:
    return f"{say_date(at.date(), today)} at {say_time(at.time())}"


def say_phone(digits: str) -> str:
    """Return the digits one by one, in groups: text to speech reads `(415)` as four hundred fifteen."""
    plain = re.sub(r"\D", "", digits)
    if len(plain) == 11 and plain.startswith("1"):
        plain = plain[1:]
    groups = [plain[:3], plain[3:6], plain[6:]] if len(plain) == 10 else [plain]
    return ", ".join(" ".join(_DIGITS[digit] for digit in group) for group in groups)


def say_email(address: str) -> str:
    """Return `anna dot smith at example dot com`."""
    signs = {".": " dot ", "@": " at ", "_": " underscore ", "-": " dash ", "+": " plus "}
    return re.sub(r" +", " ", "".join(signs.get(sign, sign) for sign in address)).strip()


def say_money(amount_cents: int) -> str:
    dollars, cents = divmod(amount_cents, 100)
    said = f"{say_number(dollars)} dollar{'' if dollars == 1 else 's'}"
    return f"{said} and {say_number(cents)} cents" if cents else said


def join_options(options: list[str]) -> str:
    """Return `nine, ten, or eleven`."""
    if len(options) < 2:
        return "".join(options)
    return f"{', '.join(options[:-1])}{',' if len(options) > 2 else ''} or {options[-1]}"


def make_speakable(text: str) -> str:
    """Return a sentence of a language model with what a voice stumbles over written out."""
    text = re.sub(r"[*_#`]+", "", text)
    text = re.sub(
        r"\$(\d[\d,]*)(?:\.(\d\d))?",
        lambda match: say_money(int(match[1].replace(",", "")) * 100 + int(match[2] or 0)),
        text,
    )
    text = re.sub(
        r"(?:\+?1[\s.-]*)?\(?\b(\d{3})\)?[\s.-]+(\d{3})[\s.-]+(\d{4})\b",
        lambda match: say_phone("".join(match.groups())),
        text,
    )
    text = re.sub(
        r"\b(\d{1,2}):(\d\d)\b(\s*[ap](?:\.m\.|m\b))?",
        lambda match: _say_clock(int(match[1]), int(match[2]), match[3] or ""),
        text,
    )
    return text.strip()


def _say_clock(hour: int, minute: int, half: str) -> str:
    if "p" in half.lower() and hour < 12:
        hour += 12
    if hour > 23 or minute > 59:
        return f"{hour} {minute}"
    said = say_time(datetime.time(hour, minute))
    return said if half or hour > 12 else said.rpartition(" in the ")[0] or said
