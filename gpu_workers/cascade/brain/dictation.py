"""A telephone number as it is dictated: in one breath, in several, or in the three groups that the agent asks for.

Recognisers lose one of a run of equal digits, so a number of the wrong length is asked for again, never guessed.
"""

from __future__ import annotations

import dataclasses

from gpu_workers.cascade.brain import speaking
from gpu_workers.cascade.brain.hearing.answers import read_phone
from gpu_workers.cascade.brain.hearing.words import PHONE_DIGITS, read_digits

AREA_DIGITS = 3
LOCAL_DIGITS = PHONE_DIGITS - AREA_DIGITS
GROUPS = (("first three", 3), ("next three", 6), ("last four", 10))
"""What is asked for, and how many digits are known after it."""
FAILURES_BEFORE_GROUPS = 2
FAILURES_BEFORE_GIVING_UP = 6
MIN_DIGITS = 3
"""Fewer digits than this are no beginning of a telephone number."""


@dataclasses.dataclass
class Dictation:
    digits: str = ""
    failures: int = 0
    has_keypad: bool = False

    def take(self, heard: str) -> str | None:
        """Take the digits of an utterance; return the number once it is whole."""
        if phone := read_phone(heard):
            self.digits = ""
            return phone
        digits = read_digits(heard)
        if len(digits) < (1 if self.digits else MIN_DIGITS):
            return None
        if self._in_groups:
            self._take_group(digits)
        else:
            self._take_part(digits)
        if len(self.digits) < PHONE_DIGITS:
            return None
        phone, self.digits = self.digits, ""
        return phone

    def _take_part(self, digits: str) -> None:
        if len(self.digits) == LOCAL_DIGITS and len(digits) == AREA_DIGITS:
            self.digits = digits + self.digits
            return
        joined = self.digits + digits
        if joined.startswith("1") and len(joined) == PHONE_DIGITS + 1:
            joined = joined[1:]
        if len(joined) <= LOCAL_DIGITS or len(joined) == PHONE_DIGITS:
            self.digits = joined
        else:
            self.failures += 1
            self.digits = ""

    def _take_group(self, digits: str) -> None:
        ends = [known for _, known in GROUPS]
        if len(self.digits) + len(digits) in ends:
            self.digits += digits
        else:
            self.failures += 1

    @property
    def _in_groups(self) -> bool:
        return self.failures >= FAILURES_BEFORE_GROUPS

    @property
    def is_hopeless(self) -> bool:
        return self.failures >= FAILURES_BEFORE_GIVING_UP

    def ask(self) -> str | None:
        """Return the sentence that asks for what is missing; None where nothing was heard so far."""
        if self._in_groups:
            group = next(name for name, known in GROUPS if len(self.digits) < known)
            if self.digits:
                return f"I have {speaking.say_phone(self.digits)}. And the {group} digits?"
            keypad = " Or key the whole number in, and press the hash key." if self.has_keypad else ""
            return f"Let us take the number in three parts. What are the {group} digits?{keypad}"
        if len(self.digits) == LOCAL_DIGITS:
            return f"I have {speaking.say_phone(self.digits)}. And the area code?"
        if self.digits:
            return f"I have {speaking.say_phone(self.digits)}. And the rest?"
        if self.failures and self.has_keypad:
            return "I did not get that number right. Could you key it in on your telephone, and press the hash key?"
        if self.failures:
            return "I did not get that number right. Could you say it again, slowly, digit by digit?"
        return None
