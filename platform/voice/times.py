"""When messages passed, and what follows from it: a bounded memory of times, percentiles, and the parts of a turn.

Times are seconds of one monotonic clock; durations that leave this module are whole milliseconds.
"""

from __future__ import annotations

import array
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

PARTS = ("end_of_turn", "stt", "llm_ttft", "tts_ttfb")
"""The worker's parts of a turn, as they are named in its `turn` metadata."""


class TimeRing:
    """The times of the last messages of one direction, by their index from 0."""

    __slots__ = ("_size", "_times", "count")

    def __init__(self, size: int = 2048) -> None:
        self._size = size
        self._times = array.array("d")
        self.count = 0

    def append(self, at: float) -> None:
        if self.count < self._size:  # short calls need not hold a long memory
            self._times.append(at)
        else:
            self._times[self.count % self._size] = at
        self.count += 1

    def at(self, index: int | None) -> float | None:
        """Return the time of a message, or None where it has not passed or is forgotten."""
        if index is None or not max(0, self.count - self._size) <= index < self.count:
            return None
        return self._times[index % self._size]


class DurationHistogram:
    """Durations in buckets that grow by a tenth, so that percentiles are right within 5 % in bounded memory."""

    _SMALLEST_MS = 0.001
    _GROWTH = math.log(1.1)

    def __init__(self) -> None:
        self._counts = array.array("I", bytes(4 * 200))  # up to 0.001 × 1.1^200 ms: over two days
        self.count = 0

    def add(self, duration_ms: float) -> None:
        bucket = int(math.log(duration_ms / self._SMALLEST_MS) / self._GROWTH) if duration_ms > self._SMALLEST_MS else 0
        self._counts[min(bucket, 199)] += 1
        self.count += 1

    def percentile(self, share: float) -> float | None:
        """Return the duration in ms under which `share` (0 to 1) of all are; None where there are none."""
        if not self.count:
            return None
        left = max(1, math.ceil(self.count * share))
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return self._SMALLEST_MS * math.exp((bucket + 0.5) * self._GROWTH)
        raise AssertionError("the counts do not add up")


MOST_TURNS = 10_000
"""A worker that counts further than this is not believed."""


def milliseconds(value: object) -> int | None:
    """Return a worker's duration as whole milliseconds; None where it is no number, or not from 0 to a day."""
    if isinstance(value, int | float) and 0 <= value <= 86_400_000:
        return round(value)
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class TurnTimes:
    """One exchange. `parts_ms` and `other_ms` add up to `turn_ms`; the greeting has none of them."""

    index: int
    at_ms: int
    """From the request to the first message of the reply."""
    turn_ms: int | None
    parts_ms: dict[str, int | None]
    other_ms: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Indexes:
    """Where a worker's own counting from 0 begins in the call's: it may be the call's second worker."""

    caller: int = 0
    """Of the caller's audio messages; negative where it was sent more than came."""
    worker: int = 0
    """Of workers' audio messages."""
    turn: int = 0


def turn_times(
    document: Mapping[str, Any], *, caller: TimeRing, worker: TimeRing, began: float, indexes: Indexes = Indexes()
) -> TurnTimes | None:
    """Measure a turn from the worker's `turn` metadata.

    Args:
        caller: arrival times of the caller's audio messages.
        worker: departure times of the worker's audio messages.
        began: when the call's request was received.
        indexes: what the worker's indexes are to be raised by.

    Returns None where the metadata is not of its form or names a reply that has not passed.
    """
    try:
        index, reply_message = int(document["index"]), int(document["reply_message"]) + indexes.worker
        ended_message = document.get("speech_ended_message")
        reported = document.get("parts_ms") or {}
        parts = {name: milliseconds(reported.get(name)) for name in PARTS}
        spoke_until = None if ended_message is None else caller.at(int(ended_message) + indexes.caller)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    worker_spoke = worker.at(reply_message)
    if worker_spoke is None or not 0 <= index < MOST_TURNS:
        return None
    index += indexes.turn
    at_ms = round((worker_spoke - began) * 1000)
    if spoke_until is None or spoke_until > worker_spoke:
        return TurnTimes(index, at_ms, None, dict.fromkeys(PARTS), None)
    turn_ms = round((worker_spoke - spoke_until) * 1000)
    return TurnTimes(index, at_ms, turn_ms, parts, turn_ms - sum(value or 0 for value in parts.values()))


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value under which `share` (0 to 1) of the values are, between neighbours in proportion."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
