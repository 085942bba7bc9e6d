"""Speech whose words come beside its sound, not in it: which of them were heard when it was cut off."""

from __future__ import annotations

import itertools
import re

WEIGHT_A_SECOND = 15.0
"""How much of a text is spoken in a second, each word counting its letters and one: a brisk voice."""


class Passage:
    """A stretch of speech while it is made and heard.

    Its words are placed in its sound by their length. While it is made nobody knows how much of either is to come, and
    words may run ahead of their sound: then no more of them are taken for heard than a voice can have spoken.
    """

    def __init__(self, id: str = "") -> None:
        self.id = id
        self.given_seconds = 0.0
        """How much of its sound there is."""
        self.heard_seconds = 0.0
        """How much was sent to the caller."""
        self._text = ""
        self._told = 0
        self._is_whole = False

    def add_words(self, text: str) -> None:
        """Take the next piece of its text, which may end within a word."""
        self._text += text

    def add_sound(self, seconds: float) -> None:
        self.given_seconds += seconds

    def end(self) -> None:
        """All its words and all its sound are there."""
        self._is_whole = True

    def hear(self, until_seconds: float) -> str:
        """Take note of how much was heard, and return the words that are new in that."""
        self.heard_seconds = max(self.heard_seconds, min(until_seconds, self.given_seconds))
        words = self._text.split()
        if words and not self._is_whole and not self._text[-1].isspace():
            words.pop()  # it may go on
        ends = list(itertools.accumulate(len(re.sub(r"\W", "", word)) + 1 for word in words))
        reached = self._weight_heard(ends[-1] if ends else 0)
        count = sum(end <= reached for end in ends)
        new, self._told = words[self._told : count], max(self._told, count)
        return " ".join(new)

    @property
    def was_cut_off(self) -> bool:
        """Whether something of it has not been heard."""
        return self.heard_seconds < self.given_seconds

    def _weight_heard(self, weight: int) -> float:
        if self._is_whole and not self.was_cut_off:
            return weight
        if not self.given_seconds:
            return 0.0
        by_share = self.heard_seconds / self.given_seconds * weight
        return by_share if self._is_whole else min(by_share, self.heard_seconds * WEIGHT_A_SECOND)
