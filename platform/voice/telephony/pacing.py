"""The agent's voice on its way to the telephone: at the pace of hearing, and never further ahead than it has to be."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable
from typing import Any, Protocol

from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, RATE_HZ, is_quiet

MOST_AHEAD_SECONDS = 0.2
"""Workers send 120 ms ahead of hearing; what is more, for long, is a clock that is faster than the carrier's."""
WINDOW_SECONDS = 5.0
LONGEST_QUEUE_SECONDS = 30.0
"""No worker sends so far ahead: what comes after is dropped."""


class Voice(Protocol):
    """What the agent says, as the carrier's codec writes it."""

    @property
    def silence(self) -> bytes:
        """A frame of 20 ms in which nothing is heard."""

    def encode(self, frame: Any) -> bytes: ...

    def is_quiet(self, frame: Any) -> bool:
        """Return whether a frame, after those that were asked for before, can go unheard."""


class Trim:
    """Says which quiet frames to leave out, so that what waits to be heard does not grow over a long call."""

    def __init__(self, is_quiet: Callable[[Any], bool] = is_quiet) -> None:
        self.skipped = 0
        self._is_quiet = is_quiet
        self._least = float("inf")
        self._window_ends = 0.0
        self._surplus_seconds = 0.0

    def leaves_out(self, frame: Any, ahead_seconds: float, at: float) -> bool:
        """Return whether this frame is to go. `ahead_seconds`: what waits to be heard before it."""
        self._least = min(self._least, ahead_seconds)
        if at >= self._window_ends:
            if self._window_ends:
                self._surplus_seconds = self._least - MOST_AHEAD_SECONDS
            self._least, self._window_ends = float("inf"), at + WINDOW_SECONDS
        seconds = len(frame) / RATE_HZ
        if self._surplus_seconds < seconds or not self._is_quiet(frame):
            return False
        self._surplus_seconds -= seconds
        self.skipped += 1
        return True


class Pacer:
    """For carriers that are sent a packet when it is to be heard, as RTP's are: what waits is sent by `run`, silence
    between.

    It keeps time by itself: a late tick is made up for, and one that is very late is let go.
    """

    def __init__(self, voice: Voice, send: Callable[[bytes, int], None]) -> None:
        """
        Args:
            send: sends a frame of so many samples at 8 kHz.
        """
        self._voice = voice
        self._send = send
        self._queue: collections.deque[tuple[bytes, int]] = collections.deque()
        self._queued_samples = 0
        self._trim = Trim(voice.is_quiet)
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def put(self, frame: Any) -> None:
        """Queue a frame as the voice takes it: its length is told in samples at 8 kHz."""
        ahead_seconds = self._queued_samples / RATE_HZ
        if ahead_seconds < LONGEST_QUEUE_SECONDS and not self._trim.leaves_out(frame, ahead_seconds, time.monotonic()):
            self._queue.append((self._voice.encode(frame), len(frame)))
            self._queued_samples += len(frame)
            self._is_empty.clear()

    def clear(self) -> None:
        """Forget what waits."""
        self._queue.clear()
        self._queued_samples = 0
        self._is_empty.set()

    async def wait_until_sent(self) -> None:
        await self._is_empty.wait()

    async def run(self) -> None:
        """Send each frame when the one before is over, for ever."""
        silence = self._voice.silence, FRAME_SAMPLES
        due = time.monotonic()
        while True:
            if self._queue:
                payload, samples = self._queue.popleft()
                self._queued_samples -= samples
            else:
                self._is_empty.set()
                payload, samples = silence
            self._send(payload, samples)
            due += samples / RATE_HZ
            now = time.monotonic()
            if now > due + 5 * FRAME_SECONDS:
                due = now
            await asyncio.sleep(max(0.0, due - now))
