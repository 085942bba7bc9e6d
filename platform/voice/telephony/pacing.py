"""The agent's voice on its way to the telephone: at the pace of hearing, and never further ahead than it has to be."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable

import numpy as np

from voice.telephony.arrivals import QUIET
from voice.telephony.g711 import FRAME_SECONDS, Law, Samples

MOST_AHEAD_SECONDS = 0.2
"""Workers send 120 ms ahead of hearing; what is more, for long, is a clock that is faster than the carrier's."""
WINDOW_SECONDS = 5.0
LONGEST_QUEUE_SECONDS = 30.0
"""No worker sends so far ahead: what comes after is dropped."""


class Trim:
    """Says which quiet frames to leave out, so that what waits to be heard does not grow over a long call."""

    def __init__(self) -> None:
        self.skipped = 0
        self._least = float("inf")
        self._window_ends = 0.0
        self._surplus_seconds = 0.0

    def leaves_out(self, frame: Samples, ahead_seconds: float, at: float) -> bool:
        """Return whether this frame is to go. `ahead_seconds`: what waits to be heard before it."""
        self._least = min(self._least, ahead_seconds)
        if at >= self._window_ends:
            if self._window_ends:
                self._surplus_seconds = self._least - MOST_AHEAD_SECONDS
            self._least, self._window_ends = float("inf"), at + WINDOW_SECONDS
        if self._surplus_seconds < FRAME_SECONDS or np.sqrt(np.mean(frame**2)) >= QUIET:
            return False
        self._surplus_seconds -= FRAME_SECONDS
        self.skipped += 1
        return True


class Pacer:
    """For carriers that are sent a packet every 20 ms, as RTP's are: what waits is sent by `run`, silence between.

    It keeps time by itself: a late tick is made up for, and one that is very late is let go.
    """

    def __init__(self, law: Law, send: Callable[[bytes], None]) -> None:
        self._law = law
        self._send = send
        self._queue: collections.deque[bytes] = collections.deque()
        self._trim = Trim()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def put(self, frame: Samples) -> None:
        ahead_seconds = len(self._queue) * FRAME_SECONDS
        if ahead_seconds < LONGEST_QUEUE_SECONDS and not self._trim.leaves_out(frame, ahead_seconds, time.monotonic()):
            self._queue.append(self._law.encode(frame))
            self._is_empty.clear()

    def clear(self) -> None:
        """Forget what waits."""
        self._queue.clear()
        self._is_empty.set()

    async def wait_until_sent(self) -> None:
        await self._is_empty.wait()

    async def run(self) -> None:
        """Send a frame every 20 ms, for ever."""
        silence = self._law.silence
        due = time.monotonic()
        while True:
            if self._queue:
                self._send(self._queue.popleft())
            else:
                self._is_empty.set()
                self._send(silence)
            due += FRAME_SECONDS
            now = time.monotonic()
            if now > due + 5 * FRAME_SECONDS:
                due = now
            await asyncio.sleep(max(0.0, due - now))
