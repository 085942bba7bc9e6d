"""A call on the telephone network of the tests: what its caller does, and what was heard of it."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMU

SILENCE = PCMU.silence


@dataclasses.dataclass
class Call:
    """One call, as its carrier has it, and what it has seen."""

    sid: str
    from_number: str
    to_number: str
    steps: list[dict[str, Any]]
    direction: str = "inbound"
    status: str = "ringing"
    answered_by: str = "human"
    is_settled: bool = False
    """The carrier knows its price."""
    spoken: list[str] = dataclasses.field(default_factory=list)
    dialled: list[str] = dataclasses.field(default_factory=list)
    requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    events: list[str] = dataclasses.field(default_factory=list)
    heard: list[bytes] = dataclasses.field(default_factory=list)
    cleared_frames: int = 0
    duration: int = 0
    problem: str = ""
    status_callback: str = ""
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def document(self) -> dict[str, Any]:
        return {
            "sid": self.sid,
            "status": self.status,
            "ended": self.ended.is_set(),
            "spoken": self.spoken,
            "dialled": self.dialled,
            "requests": self.requests,
            "events": self.events,
            "heard_seconds": len(self.heard) * FRAME_SECONDS,
            "loud_seconds": sum(np.abs(PCMU.decode(frame)).max() > 0.05 for frame in self.heard) * FRAME_SECONDS,
            "cleared_frames": self.cleared_frames,
            "problem": self.problem,
        }


class Playout:
    """What a carrier holds of the agent's voice: played a frame every 20 ms, marks told when their turn comes."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queue: collections.deque[bytes | str] = collections.deque()
        self._bytes = b""
        self.quiet_frames = 0

    def put(self, payload: bytes) -> None:
        self._bytes += payload
        while len(self._bytes) >= FRAME_SAMPLES:
            self._queue.append(self._bytes[:FRAME_SAMPLES])
            self._bytes = self._bytes[FRAME_SAMPLES:]

    def mark(self, name: str) -> None:
        self._queue.append(name)

    def clear(self) -> list[str]:
        """Forget all, and return the marks in it."""
        marks = [each for each in self._queue if isinstance(each, str)]
        self._call.cleared_frames += len(self._queue) - len(marks)
        self._queue.clear()
        return marks

    def tick(self) -> list[str]:
        """Play 20 ms, and return the marks that were reached."""
        marks: list[str] = []
        while self._queue and isinstance(self._queue[0], str):
            marks.append(str(self._queue.popleft()))
        frame = self._queue.popleft() if self._queue else SILENCE
        assert isinstance(frame, bytes)
        self._call.heard.append(frame)
        self.quiet_frames = 0 if np.abs(PCMU.decode(frame)).max() > 0.02 else self.quiet_frames + 1
        while self._queue and isinstance(self._queue[0], str):
            marks.append(str(self._queue.popleft()))
        return marks


class Hung(Exception):
    """The caller has hung up."""


class Frozen(Exception):
    """The stream is silent without having been closed."""


def read_frames(path: Path) -> list[bytes]:
    """Return the frames of a file of mu-law bytes."""
    sound = path.read_bytes()
    return [sound[at : at + FRAME_SAMPLES].ljust(FRAME_SAMPLES, b"\xff") for at in range(0, len(sound), FRAME_SAMPLES)]
