"""Whether what the caller has said so far sounds finished: it decides how long a silence ends the turn."""

from __future__ import annotations

import re

TURN_SILENCE_SECONDS = 0.45
"""Shorter silences happen inside a sentence."""
THINKING_SILENCE_SECONDS = 1.1
"""A caller who is looking for a word, or reading out a number in groups, pauses so long."""

PHONE_DIGITS = 10
"""A national number. With fewer digits, more may come."""

_LEFT_OPEN = frozenset(
    "a about after an and at because but by for from hmm i'd i'll if in is it's like maybe my of on or so than that's "
    "the to uh um until with".split()
)


def silence_that_ends(words: str) -> float:
    """Return the seconds of silence after which a turn of these words is over."""
    spoken = re.findall(r"[\w']+", words.lower())
    if not spoken or spoken[-1] in _LEFT_OPEN or _breaks_off_in_a_number(words):
        return THINKING_SILENCE_SECONDS
    return TURN_SILENCE_SECONDS


def _breaks_off_in_a_number(words: str) -> bool:
    """Tell whether the words end in the first groups of a telephone number. Times and small counts are whole."""
    last = re.search(r"(?<![\d:])\d[\d\s().,-]*$", words.strip().rstrip(".,?!"))
    digits = re.sub(r"\D", "", last.group()) if last else ""
    return 3 <= len(digits) < PHONE_DIGITS
