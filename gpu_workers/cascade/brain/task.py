"""One wish of a caller while it is worked on: its intent, the answers so far, and what the agent waits for."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any

from gpu_workers.cascade.brain.hearing.answers import read_yes_no
from gpu_workers.cascade.brain.hearing.times import read_moment
from gpu_workers.cascade.brain.hearing.words import words_of
from gpu_workers.cascade.brain.offers import Offer
from gpu_workers.cascade.brain.requests import asks_for_times, corrects, is_question
from gpu_workers.cascade.brain.slots import Slots, ask_for_rest, say_value
from gpu_workers.cascade.brain.speaking import say_phone

Intent = dict[str, Any]
Question = dict[str, Any]

_WORDS_OF_TYPE = {
    "name": {"name"},
    "phone": {"number", "phone", "telephone"},
    "email": {"email", "mail", "address"},
    "datetime": {"time", "day", "date", "hour", "later", "earlier", "sooner"},
    "date": {"day", "date"},
    "time": {"time", "hour", "later", "earlier", "sooner"},
}
"""How callers call a question when they want to answer it again: `the time is wrong`."""
MOST_WORDS_TO_NAME_A_QUESTION = 8


@dataclasses.dataclass
class Task:
    intent: Intent
    slots: Slots
    asking: str | None = None
    """The question that was asked last."""
    is_confirming: bool = False
    """Whether the agent waits for a yes, or for what to change."""
    offer: Offer | None = None
    needed: set[str] = dataclasses.field(default_factory=set)
    """The questions that the tool cannot do without."""
    known: set[str] = dataclasses.field(default_factory=set)
    """The questions that were answered before the caller spoke last."""
    skipped: set[str] = dataclasses.field(default_factory=set)
    """The questions that the caller would not answer."""

    @property
    def questions(self) -> list[Question]:
        return self.intent.get("questions", [])

    @property
    def asked(self) -> Question | None:
        return self.question(self.asking)

    @property
    def missing(self) -> Question | None:
        return self.slots.missing([each for each in self.questions if each["name"] not in self.skipped])

    @property
    def is_waiting(self) -> bool:
        return self.is_confirming or self.asking is not None

    @property
    def asks_for_text(self) -> bool:
        return self.asked is not None and self.asked["type"] == "text"

    @property
    def may_skip_asked(self) -> bool:
        """Whether a caller need not answer what was asked. What is said back before anything is done is needed."""
        return (
            self.asked is not None
            and self.asked["type"] in ("name", "phone", "email")
            and self.asked["name"] not in self.needed
            and f"{{{self.asked['name']}}}" not in self.intent.get("confirm", "")
        )

    def skip_asked(self) -> None:
        if self.asking is not None:
            self.skipped.add(self.asking)

    def with_subject(self, heard: str) -> str:
        """Return a question with the thing it is about in place of `it`: `how much is that`, said of highlights."""
        chosen = [self.slots.values.get(each["name"]) for each in self.questions if each["type"] == "choice"]
        if not is_question(heard) or not chosen or chosen[0] is None:
            return heard
        return re.sub(r"\b(?:it|that|this one|that one)\b(?!')", str(chosen[0]), heard, count=1)

    def wants_free_times(self, heard: str, now: datetime.datetime) -> bool:
        """Return whether a caller asks for free times where a time is waited for: `are you free tomorrow morning?`."""
        question = self.missing
        if question is None or question["type"] != "datetime" or not asks_for_times(heard):
            return False
        return not read_moment(heard, now).is_empty

    def acknowledge(self, changed: set[str], now: datetime.datetime) -> str:
        """Return what is said back of answers before the next question.

        A telephone number always is; other answers where the caller could doubt that they were heard: those that
        correct an earlier one, and those in whose stead something else was asked. A confirmation says all the rest.
        """
        taken = [
            name for name in changed if name != "phone" and (name in self.known or self.asking in self._unanswered)
        ]
        self.known |= set(self.slots.values)
        said = [say_value(self.slots.values[name], now, name=name) for name in sorted(taken) if self._is_said(name)]
        noted = f"All right, {' and '.join(said)}. " if said and self.missing is not None else ""
        number = f"I have {say_phone(self.slots.values['phone'])}. " if "phone" in changed else ""
        return noted + number

    @property
    def _unanswered(self) -> set[str]:
        return {each["name"] for each in self.questions if each["name"] not in self.slots.values}

    def _is_said(self, name: str) -> bool:
        question = self.question(name)
        return question is not None and question["type"] not in ("text", "yes_no")

    def recall(self, now: datetime.datetime) -> str:
        """Return what the caller has answered so far, but for what is about to be said anyway."""
        values = self.slots.values
        said = [
            say_value(values[each["name"]], now, name=each["name"]) for each in self.questions if each["name"] in values
        ]
        return "" if self.is_confirming or not said else f"So far I have {', '.join(said)}. "

    def question(self, name: str | None) -> Question | None:
        return next((each for each in self.questions if each["name"] == name), None)

    def fill(self, heard: str, now: datetime.datetime) -> set[str]:
        """Take every answer that an utterance holds; return the names of the questions whose answer is new."""
        return self.slots.fill(self.questions, heard, now, self.asking)

    def would_change(self, heard: str, now: datetime.datetime) -> set[str]:
        """Return what `fill` would return, and take nothing."""
        return self.slots.copy().fill(self.questions, heard, now, self.asking)

    def is_answered_by(self, heard: str, now: datetime.datetime) -> bool:
        """Return whether an utterance answers what was asked, so that it is less likely a new wish."""
        if self.question_named(heard) or (self.is_confirming or corrects(heard)) and self.would_change(heard, now):
            return True
        if self.is_confirming:
            return read_yes_no(heard) is not None
        return self.asked is not None and bool(self.slots.copy().fill([self.asked], heard, now, self.asking))

    def question_named(self, heard: str) -> Question | None:
        """Return the answered question that a caller names without answering it: `no, the name is wrong`."""
        words = set(words_of(heard))
        if len(words) > MOST_WORDS_TO_NAME_A_QUESTION:
            return None
        for question in self.questions:
            called = _WORDS_OF_TYPE.get(question["type"], set()) | set(question["name"].split("_"))
            if question["name"] in self.slots.values and called & words:
                return question
        return None

    def question_again(self, now: datetime.datetime) -> str:
        """Return what the agent waits for, as it would ask it again; empty where it waits for nothing."""
        if self.is_confirming and self.missing is None:
            return self.intent.get("confirm", "")
        return self.ask(self.asked, now) if self.asked is not None else ""

    def ask(self, question: Question, now: datetime.datetime) -> str:
        """Return the sentence that asks a question, or for the rest of a half-given answer."""
        return ask_for_rest(question, self.slots, now) or question["ask"]
