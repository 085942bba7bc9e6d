"""Keys of a telephone as what the caller would have said: what they mean depends on what was asked."""

from __future__ import annotations

import re

from gpu_workers.cascade.brain.hearing.dates import MONTHS
from gpu_workers.cascade.brain.task import Question

PERSON = "I want to speak to a person."
AGAIN = "Could you say that again?"
YES, NO = "1", "2"


def words_of_keys(keys: str, question: Question | None, *, is_confirming: bool, has_date: bool) -> str:
    """Return the words for keys: numbers for numbers, MMDD for a date, HHMM for a time, 1 and 2 for yes and no.

    Everywhere else 0 asks for a person, and a star for the last words again.

    Args:
        question: the one that was asked last.
        is_confirming: the agent waits for a yes.
        has_date: of a day and an hour the day is known.
    """
    digits = re.sub(r"\D", "", keys)
    kind = "yes_no" if is_confirming else question["type"] if question is not None else ""
    if not digits:
        return AGAIN if "*" in keys else ""
    match kind:
        case "yes_no" if digits in (YES, NO):
            return "yes" if digits == YES else "no"
        case "choice" if question is not None and 1 <= int(digits) <= len(question["choices"]):
            return str(question["choices"][int(digits) - 1])
        case "date" | "datetime" if not has_date and (date := _date(digits)) is not None:
            return date
        case "time" | "datetime" if (time := _time(digits)) is not None:
            return time
        case "phone" | "number" | "text":
            return digits
    return PERSON if digits == "0" else digits


def _date(digits: str) -> str | None:
    """Return `March 12` for 0312."""
    if len(digits) != 4 or not 1 <= int(digits[:2]) <= 12 or not 1 <= int(digits[2:]) <= 31:
        return None
    return f"{MONTHS[int(digits[:2]) - 1].capitalize()} {int(digits[2:])}"


def _time(digits: str) -> str | None:
    """Return `3:30 pm` for 1530, and `3:30` for 330 and 0330: which half of the day is heard from the hour."""
    if len(digits) not in (3, 4) or int(digits[:-2]) > 23 or int(digits[-2:]) > 59:
        return None
    hour, minute = int(digits[:-2]), digits[-2:]
    return f"{hour - 12}:{minute} pm" if hour > 12 else f"{hour}:{minute}"
