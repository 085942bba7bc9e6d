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


class Counts:
    """Messages and bytes that passed in one direction, and the times of its audio messages."""

    def __init__(self, delays: DurationHistogram) -> None:
        self.messages = 0
        self.bytes = 0
        self.discarded = 0
        self.audio = TimeRing()
        self.last_arrived_at = time.monotonic()
        self.waiting_since: float | None = None
        """When the message began to wait for the other side to take it; None while none does."""
        self._delays = delays

    def departed(self, message: bytes, arrived_at: float, at: float) -> None:
        self.waiting_since = None
        self.messages += 1
        self.bytes += len(message)
        self._delays.add((at - arrived_at) * 1000)


class FromCaller(Counts):
    """Lets audio, control and pings pass. Remembers when each audio message arrived."""

    def arrived(self, message: bytes, at: float) -> bool:
        self.last_arrived_at = at
        kind = message[0] if message else -1
        if kind not in _FROM_CALLER:
            self.discarded += 1
            return False
        if kind == _AUDIO:
            self.audio.append(at)
        self.waiting_since = at
        return True


class FromWorker(Counts):
    """Lets audio, text, errors and some metadata pass, and gives all metadata to `on_metadata`.

    Remembers when each audio message was sent to the caller.
    """

    def __init__(
        self,
        delays: DurationHistogram,
        *,
        on_metadata: Callable[[dict[str, Any]], None],
        on_malformed: Callable[[str], None],
    ) -> None:
        super().__init__(delays)
        self.first_audio: float | None = None
        self._on_metadata = on_metadata
        self._on_malformed = on_malformed

    def arrived(self, message: bytes, at: float) -> bool:
        self.last_arrived_at = at
        kind = message[0] if message else -1
        passes = self._read_metadata(message) if kind == _METADATA else kind in _FROM_WORKER
        if passes:
            self.waiting_since = at
        elif kind != _METADATA:
            self.discarded += 1
        return passes

    def departed(self, message: bytes, arrived_at: float, at: float) -> None:
        super().departed(message, arrived_at, at)
        if message[0] == _AUDIO:
            self.audio.append(at)
            self.first_audio = self.first_audio or at

    def _read_metadata(self, message: bytes) -> bool:
        try:
            document = read_metadata(message)
        except ProtocolError as problem:
            self._on_malformed(str(problem))
            return False
        self._on_metadata(document)
        return document["type"] in CALLER_METADATA
