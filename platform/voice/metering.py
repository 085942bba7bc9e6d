"""What is counted and timed while messages pass, one object per direction. Nothing here waits or writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gpu_workers.protocol import CALLER_KINDS, CALLER_METADATA, Kind, ProtocolError, read_metadata
from voice.times import DurationHistogram, TimeRing

# Plain integers: a look-up in these runs once per message.
_AUDIO, _METADATA = int(Kind.AUDIO), int(Kind.METADATA)
_FROM_CALLER = frozenset(int(kind) for kind in CALLER_KINDS)
_FROM_WORKER = frozenset({int(Kind.AUDIO), int(Kind.TEXT), int(Kind.ERROR)})

Passes = Callable[[int, Callable[[], bytes]], bool]
"""Whether a message that is no audio may pass, by its kind and its bytes."""


class Counts:
    """Messages and bytes that passed in one direction, and the times of its audio messages.

    One class for both directions: what runs for each message is fast only while it meets one kind of object.
    """

    __slots__ = (
        "_delays",
        "_passes",
        "audio_times",
        "bytes",
        "discarded",
        "first_audio",
        "last_arrived_at",
        "messages",
        "tap",
        "waiting_since",
    )

    def __init__(self, delays: DurationHistogram, passes: Passes) -> None:
        self.messages = 0
        self.bytes = 0
        self.discarded = 0
        self.audio_times = TimeRing()
        self.first_audio: float | None = None
        self.last_arrived_at = time.monotonic()
        self.waiting_since: float | None = None
        """When messages began to wait for the other side to take them; None while none does."""
        self.tap: Callable[[bytes, float], None] | None = None
        """Is shown each message of audio and when it came, while somebody records."""
        self._delays = delays
        self._passes = passes

    def audio(self, size_bytes: int, at: float) -> None:
        if self.first_audio is None:
            self.first_audio = at
        self.messages += 1
        self.bytes += size_bytes
        self.last_arrived_at = at
        self.audio_times.append(at)

    def other(self, kind: int, message: Callable[[], bytes], size_bytes: int, at: float) -> bool:
        self.last_arrived_at = at
        passes = self._passes(kind, message)
        if passes:
            self.messages += 1
            self.bytes += size_bytes
        return passes

    def departed(self, arrived_at: float, at: float) -> None:
        self._delays.add((at - arrived_at) * 1000)

    def take_back(self, message: bytes) -> None:
        """Forget a message that was let pass and is not passed on after all: it keeps its index and its time."""
        self.messages -= 1
        self.bytes -= len(message)


def from_caller(delays: DurationHistogram) -> Counts:
    """Lets audio, control and pings pass. Remembers when each audio message arrived."""

    def passes(kind: int, message: Callable[[], bytes]) -> bool:
        is_known = kind in _FROM_CALLER
        counts.discarded += not is_known
        return is_known

    counts = Counts(delays, passes)
    return counts


def from_worker(
    delays: DurationHistogram, *, on_metadata: Callable[[dict[str, Any]], None], on_malformed: Callable[[str], None]
) -> Counts:
    """Lets audio, text, errors and some metadata pass, and gives all metadata to `on_metadata`.

    Remembers when each audio message was sent to the caller: it is when it came, or microseconds later.
    """

    def passes(kind: int, message: Callable[[], bytes]) -> bool:
        if kind != _METADATA:
            is_known = kind in _FROM_WORKER
            counts.discarded += not is_known
            return is_known
        try:
            document = read_metadata(message())
        except ProtocolError as problem:
            on_malformed(str(problem))
            return False
        on_metadata(document)
        return document["type"] in CALLER_METADATA

    counts = Counts(delays, passes)
    return counts
