"""Filling an intent's questions from what was said, and saying the values back."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from gpu_workers.cascade.brain import speaking
from gpu_workers.cascade.brain.hearing import answers
from gpu_workers.cascade.brain.hearing.times import FROM_HOUR, PARTS_OF_DAY, Moment, read_moment
from gpu_workers.cascade.brain.hearing.words import read_digits, read_number, without_phone, words_of

PHONE_DIGITS = 10
MIN_DIGITS = 3
"""Fewer digits than this are no beginning of a telephone number."""


@dataclasses.dataclass
class Slots:
    """What is known so far. Times are the business's wall clock; `partial` holds what a question has of its answer."""

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    moment: Moment = Moment()
    digits: str = ""

    def fill(self, questions: list[dict[str, Any]], heard: str, now: datetime.datetime, asked: str | None) -> set[str]:
        """Take every answer that an utterance holds; return the names of the questions whose value is new or changed.

        Args:
            asked: the name of the question that was asked last; its answer may be bare.
        """
        changed = set()
        # The digits of a telephone number are no time of day, whatever they look like.
        asked_type = next((each["type"] for each in questions if each["name"] == asked), "")
        gives_digits = asked_type == "phone" and read_digits(heard)
        for question in questions:
            name = question["name"]
            if gives_digits and question["type"] in ("datetime", "date", "time"):
                continue
            # A story may name a day or a thing without meaning to change what was settled.
            if asked_type == "text" and name != asked and name in self.values:
                continue
            value = self._read(question, heard, now, asked=name == asked)
            if value is not None and value != self.values.get(name):
                self.values[name] = value
                changed.add(name)
        return changed

    def missing(self, questions: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the first question that has no answer."""
        return next((each for each in questions if each["name"] not in self.values and not each.get("optional")), None)

    def forget(self, name: str) -> None:
        """Ask for a value again. The day of a time stays known: `at four, then` means the same day."""
        self.values.pop(name, None)

    def _read(self, question: dict[str, Any], heard: str, now: datetime.datetime, *, asked: bool) -> Any:
        known = question["name"] in self.values
        match question["type"]:
            case "choice":
                return answers.read_choice(heard, question["choices"])
            case "datetime":
                return self._read_datetime(heard, now, from_hour=question.get("from_hour", FROM_HOUR))
            case "date":
                return _only_if(asked or not known, read_moment(heard, now).date)
            case "time":
                moment = read_moment(heard, now, from_hour=question.get("from_hour", FROM_HOUR))
                return None if moment.is_vague else moment.time
            case "name":
                return answers.read_name(heard, asked=asked and not known)
            case "phone":
                return self._read_phone(heard, asked=asked)
            case "email":
                return answers.read_email(heard)
            case "number":
                return read_number(heard) if asked else None
            case "yes_no":
                return answers.read_yes_no(heard) if asked else None
            case "text":
                return heard.strip() if asked and heard.strip() else None
        return None

    def _read_datetime(self, heard: str, now: datetime.datetime, *, from_hour: int) -> datetime.datetime | None:
        said = read_moment(without_phone(heard), now, from_hour=from_hour)
        if said.date is None and said.time is None:
            return None
        earlier = self.moment
        self.moment = said.joined(earlier)
        return self.moment.whole

    def _read_phone(self, heard: str, *, asked: bool) -> str | None:
        digits = read_digits(heard)
        if phone := answers.read_phone(heard):
            self.digits = ""
            return phone
        if not asked or len(digits) < (1 if self.digits else MIN_DIGITS):
            return None
        # A pause inside the number makes two turns of it.
        joined = self.digits + digits
        self.digits = joined if len(joined) < PHONE_DIGITS else ""
        return joined if len(joined) == PHONE_DIGITS else None


def ask_again(question: dict[str, Any], slots: Slots, heard: str, now: datetime.datetime) -> str | None:
    """Return the sentence that asks for the rest of a half-given answer, or None where nothing of it was heard."""
    match question["type"]:
        case "datetime":
            moment = slots.moment
            if moment.date is not None and (moment.time is None or moment.is_vague):
                day = speaking.say_date(moment.date, now.date())
                when = (
                    f" in the {moment.part_of_day}" if moment.part_of_day in ("morning", "afternoon", "evening") else ""
                )
                return f"What time {_on(day)}{when}?"
            if moment.date is None and moment.time is not None:
                return f"And on which day{'' if moment.is_vague else ' at ' + speaking.say_time(moment.time)}?"
        case "phone":
            heard_digits = len(read_digits(heard))
            if slots.digits:
                return f"I have {speaking.say_phone(slots.digits)}. And the rest?"
            if heard_digits >= 3:
                return "I did not get that number right. Could you say it again, slowly, digit by digit?"
        case "email":
            if "at" in words_of(heard) or "dot" in words_of(heard):
                return "I did not get that address right. Could you say it again, slowly?"
    return None


def say_value(value: Any, now: datetime.datetime, *, name: str = "") -> str:
    """Return a slot's value, or a field of a tool's result, as it is said."""
    if isinstance(value, str) and name != "name":
        try:
            value = datetime.datetime.fromisoformat(value) if "T" in value else value
        except ValueError:
            pass
    if isinstance(value, datetime.datetime):
        return speaking.say_moment(value, now.date())
    if isinstance(value, datetime.date):
        return speaking.say_date(value, now.date())
    if isinstance(value, datetime.time):
        return speaking.say_time(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return speaking.say_number(value) if abs(value) < 1_000_000 else str(value)
    text = str(value)
    if name == "email" and "@" in text:
        return speaking.say_email(text)
    return speaking.say_phone(text) if name == "phone" or (text.isdigit() and len(text) == PHONE_DIGITS) else text


def tool_value(value: Any) -> Any:
    """Return a slot's value as tools take it."""
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="minutes")[:16]
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.isoformat(timespec="minutes")
    return value


def pick_alternative(heard: str, offered: list[datetime.datetime], now: datetime.datetime) -> datetime.datetime | None:
    """Return which of the offered times was chosen: by its place, its hour or its day."""
    place = answers.read_position(heard, len(offered))
    if place is not None:
        return offered[place]
    said = read_moment(heard, now)
    if said.time is None and said.date is None:
        # A bare `nine` is a time when times were offered.
        said = read_moment(f"at {heard}", now)
    fitting = [
        each
        for each in offered
        if (said.date is None or each.date() == said.date)
        and (said.time is None or said.is_vague or _same_clock(each.time(), said.time))
        and (said.date is not None or said.time is not None)
    ]
    if said.is_vague and said.part_of_day in PARTS_OF_DAY:
        fitting = [each for each in fitting if (each.hour < 12) == (said.part_of_day == "morning")]
    return fitting[0] if len(fitting) == 1 else None


def _same_clock(one: datetime.time, other: datetime.time) -> bool:
    """Whether two times read the same on a clock's face: `at seven` picks 07:00 where only that was offered."""
    return (one.hour % 12, one.minute) == (other.hour % 12, other.minute)


def _on(day: str) -> str:
    return day if day in ("today", "tomorrow") else f"on {day}"


def _only_if(condition: bool, value: Any) -> Any:
    return value if condition else None
