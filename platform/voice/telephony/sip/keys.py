"""Keys that a caller presses, by whichever way they come: RFC 4733, SIP INFO, or as tones. Each counts once."""

from __future__ import annotations

import dataclasses
import enum
import re

DIGITS = "0123456789*#ABCD"
"""By the number that RFC 4733 gives each."""
ONE_PRESS_SECONDS = 1.0
"""Within so long the same key by another way is the same press: some telephones send it by two."""
RELAY, PLAIN = "application/dtmf-relay", "application/dtmf"
LONGEST_INFO = 256
"""Of characters; a key takes about thirty."""
_SIGNAL = re.compile(r"^[ \t]*Signal[ \t]*=[ \t]*(\S{1,16})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class Way(enum.IntEnum):
    """The better ones are greater."""

    TONE = 1
    INFO = 2
    EVENT = 3


@dataclasses.dataclass(frozen=True, slots=True)
class _Press:
    digit: str
    way: Way
    at: float


class Keypad:
    """Of one call: tells presses from what is said of them again."""

    def __init__(self) -> None:
        self._best = Way.TONE
        self._recent: list[_Press] = []

    def takes(self, digit: str, way: Way, at: float) -> bool:
        """Return whether this is a press that was not heard of. Once keys came by a way, worse ones do not count."""
        if way < self._best:
            return False
        self._best = way
        self._recent = [each for each in self._recent if at - each.at < ONE_PRESS_SECONDS]
        for each in self._recent:
            if each.digit == digit and each.way != way:
                self._recent.remove(each)
                return False
        self._recent.append(_Press(digit, way, at))
        return True


def read_info(kind: str, text: str) -> str | None:
    """Return the key in the body of an INFO of either kind; None where it names none."""
    if len(text) > LONGEST_INFO:
        return None
    signal = _SIGNAL.search(text)
    name = (signal[1] if signal else "") if kind == RELAY else text.strip()
    if name.isascii() and name.isdecimal() and len(name) == 2 and int(name) < len(DIGITS):
        return DIGITS[int(name)]  # some write the number of RFC 4733
    return name.upper() if len(name) == 1 and name.upper() in DIGITS else None
