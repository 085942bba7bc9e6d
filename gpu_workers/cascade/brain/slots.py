"""Filling an intent's questions from what was said, and saying the values back."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from gpu_workers.cascade.brain import speaking
from gpu_workers.cascade.brain.dictation import Dictation
from gpu_workers.cascade.brain.hearing import answers
from gpu_workers.cascade.brain.hearing.times import FROM_HOUR, Moment, read_moment
from gpu_workers.cascade.brain.hearing.words import (
    PHONE_DIGITS,
    has_content,
    is_bare_number,
    is_corrected_number,
    read_digits,
    read_number,
    without_phone,
)
from gpu_workers.cascade.brain.requests import corrects

MOST_DIGITS_OF_AN_HOUR = 4


@dataclasses.dataclass
class Slots:
    """What is known so far, and what was said of a time or a telephone number. Times are on the business's clock."""

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    moment: Moment = Moment()
    dictation: Dictation = dataclasses.field(default_factory=Dictation)
    latest: str | None = None
    """The question that was answered last with a number or an hour: `sorry, I meant three` corrects it."""

    def copy(self) -> Slots:
        return dataclasses.replace(self, values=dict(self.values), dictation=dataclasses.replace(self.dictation))

    def half_given(self) -> tuple[Moment, Dictation]:
        """Return what was said of answers that are not whole yet, to compare it with what it is a turn later."""
        return self.moment, dataclasses.replace(self.dictation)

    def fill(self, questions: list[dict[str, Any]], heard: str, now: datetime.datetime, asked: str | None) -> set[str]:
        """Take every answer that an utterance holds; return the names of the questions whose value is new or changed.

        Args:
            asked: the name of the question that was asked last; its answer may be bare.
        """
        changed = set()
        if is_corrected_number(heard) and self.latest not in (None, asked):
            questions, asked = [each for each in questions if each["name"] == self.latest], self.latest
        # The digits of a telephone number are no time of day, whatever they look like.
        asked_type = next((each["type"] for each in questions if each["name"] == asked), "")
        digits = read_digits(heard)
        is_hour = corrects(heard) and len(digits) <= MOST_DIGITS_OF_AN_HOUR
        gives_digits = asked_type == "phone" and digits and not is_hour
        for question in questions:
            name = question["name"]
            if gives_digits and question["type"] in ("datetime", "date", "time"):
                continue
            # A story may name a day or a thing without meaning to change what was settled.
            if asked_type == "text" and name != asked and name in self.values:
                continue
            # A choice that is named again is no name: `the beard`.
            if question["type"] == "name" and asked == name and _names_a_choice(questions, heard):
                continue
            value = self._read(question, heard, now, asked=name == asked, is_answer_to_other=asked not in (None, name))
            if value is not None and value != self.values.get(name):
                self.values[name] = value
                changed.add(name)
                self.latest = name if question["type"] in ("number", "datetime", "time") else self.latest
        return changed

    def missing(self, questions: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the first question that has no answer."""
        return next((each for each in questions if each["name"] not in self.values and not each.get("optional")), None)

    def forget(self, name: str) -> None:
        """Ask for a value again. The day of a time stays known: `at four, then` means the same day."""
        self.values.pop(name, None)

    def forget_times(self, questions: list[dict[str, Any]]) -> None:
        """Forget what was said of days and hours: they were the ones that do not suit."""
        self.moment = Moment()
        for question in questions:
            if question["type"] in ("datetime", "date", "time"):
                self.values.pop(question["name"], None)

    def _read(
        self, question: dict[str, Any], heard: str, now: datetime.datetime, *, asked: bool, is_answer_to_other: bool
    ) -> Any:
        known = question["name"] in self.values
        match question["type"]:
            case "choice":
                # Said in answer to another question, `Brent` is no `rent`.
                choices = question["choices"]
                if known and is_answer_to_other:
                    return answers.read_named_choice(heard, choices)
                if choice := answers.read_choice(heard, choices, is_exact=is_answer_to_other):
                    return choice
                place = answers.read_position(heard, len(choices)) if asked else None
                return None if place is None else choices[place]
            case "datetime":
                if known and is_answer_to_other and is_bare_number(heard):
                    return None
                return self._read_datetime(heard, now, from_hour=question.get("from_hour", FROM_HOUR))
            case "date":
                return _only_if(asked or not known, read_moment(heard, now).date)
            case "time":
                moment = read_moment(heard, now, from_hour=question.get("from_hour", FROM_HOUR))
                return None if moment.is_vague else moment.time
            case "name":
                return answers.read_name(heard, asked=asked and not known and not answers.read_address(heard))
            case "phone":
                return self._read_phone(heard, asked=asked)
            case "email":
                return answers.read_email(heard)
            case "number":
                return self._read_number(question, heard, now, asked=asked)
            case "yes_no":
                return answers.read_yes_no(heard) if asked else None
            case "text" if question["name"] == "address" and not asked:
                return _only_if(not known, answers.read_address(heard))
            case "text":
                return heard.strip() if asked and has_content(heard) else None
        return None

    def _read_datetime(self, heard: str, now: datetime.datetime, *, from_hour: int) -> datetime.datetime | None:
        said = read_moment(without_phone(heard), now, from_hour=from_hour)
        if said.date is None and said.time is None:
            return None
        earlier = self.moment
        self.moment = said.joined(earlier)
        return self.moment.whole

    @staticmethod
    def _read_number(question: dict[str, Any], heard: str, now: datetime.datetime, *, asked: bool) -> int | None:
        heard = without_phone(heard)
        count = answers.read_count(heard, question["ask"])
        if count is None and asked and read_moment(heard, now).date is None:
            return read_number(heard)
        return count

    def _read_phone(self, heard: str, *, asked: bool) -> str | None:
        return self.dictation.take(heard) if asked else answers.read_phone(heard)


def ask_for_rest(question: dict[str, Any], slots: Slots, now: datetime.datetime) -> str | None:
    """Return the sentence that asks for the rest of a half-given answer, or None where nothing of it was heard."""
    if question["type"] == "phone":
        return slots.dictation.ask()
    moment = slots.moment
    if question["type"] != "datetime" or moment.whole is not None or moment.is_empty:
        return None
    if moment.date is not None:
        day = speaking.say_date(moment.date, now.date())
        part = f" in the {moment.part_of_day}" if moment.part_of_day in ("morning", "afternoon", "evening") else ""
        return f"What time {day if day in ('today', 'tomorrow') else f'on {day}'}{part}?"
    if moment.is_vague or moment.time is None:
        return "And on which day?"
    return f"And on which day at {speaking.say_time(moment.time)}?"


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


def _only_if(condition: bool, value: Any) -> Any:
    return value if condition else None


def _names_a_choice(questions: list[dict[str, Any]], heard: str) -> bool:
    return any(answers.read_named_choice(heard, each["choices"]) for each in questions if each["type"] == "choice")
