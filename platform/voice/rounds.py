"""Going round the calls of a process: each is looked at once a second, a few at a time.

A clock in every call would cost a busy process more than the calls' audio, and a look at all of them at once would hold
up that audio.
"""

from __future__ import annotations

import asyncio
import collections
import math
import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

ROUND_SECONDS = 1.0
STEPS = 20
"""Of one round."""

Look = Callable[[float], None]
"""Takes the time (monotonic seconds), and never waits."""


class Rounds:
    """Looks at each that has joined, once a round."""

    def __init__(self) -> None:
        self._looks: collections.OrderedDict[Any, Look] = collections.OrderedDict()

    def join(self, who: Any, look: Look) -> None:
        self._looks[who] = look

    def leave(self, who: Any) -> None:
        self._looks.pop(who, None)

    async def keep_going(self) -> None:
        """Go round until cancelled."""
        while True:
            await asyncio.sleep(ROUND_SECONDS / STEPS)
            for _ in range(math.ceil(len(self._looks) / STEPS)):
                who, look = next(iter(self._looks.items()))
                self._looks.move_to_end(who)
                try:
                    look(time.monotonic())
                except Exception:
                    log.exception("look.failed")
