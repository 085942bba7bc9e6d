"""From pieces of a caller's sound, as a network brings them, to frames of 20 ms in order.

Engines need no steady clock: a piece that is next passes on at once, so that a network without losses adds nothing.
Only a gap is waited for, as long as the network's jitter suggests, and then concealed. How much sound passed is held
against our own clock: silence is skipped or added where the carrier's clock is faster or slower.
No sockets, no tasks: who calls gives the time.
"""

from __future__ import annotations

import collections
from typing import Generic

from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, RATE_HZ
from voice.telephony.pieces import Piece, Pieces

SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.02, 0.12
"""For a piece whose successor is there already."""
WAIT_PER_JITTER = 4.0
MOST_CONCEALED = 10 * FRAME_SAMPLES
"""A longer gap is a pause of the carrier's, which sends nothing in silence: it is filled with silence."""
LONGEST_PAUSE = 2 * RATE_HZ
"""A longer one is a stream that began anew."""
STARVED_SECONDS = 1.0
"""After so long without a piece silence passes on in its place, so that engines and gateway know of the line."""
DRIFT_SECONDS = 0.03
"""By so much clocks may differ before a frame is skipped or added."""
DRIFT_WINDOW_SECONDS = 4.0
REMEMBERED = 128
WRAP_HALF = {16: 1 << 15, 32: 1 << 31}


def unwrap(value: int, *, after: int, bits: int) -> int:
    """Return a counter of so many bits as one that never wraps, nearest to the one before."""
    return after + (value - after + WRAP_HALF[bits]) % (1 << bits) - WRAP_HALF[bits]


class Arrivals(Generic[Piece]):
    """Positions are samples at 8 kHz on the carrier's clock, times monotonic seconds. Both counters are unwrapped."""

    def __init__(self, pieces: Pieces[Piece]) -> None:
        self._pieces: Pieces[Piece] = pieces
        self.received = 0
        self.late = 0
        """Pieces that came when their place was filled already."""
        self.concealed = 0
        """Frames that were made up."""
        self.skipped = self.added = 0
        """Frames of silence that went or came for the clocks' sake."""
        self.jitter_seconds = 0.0
        """RFC 3550, section 6.4.1."""
        self._first_sequence = self._highest_sequence = 0
        self._seen: collections.deque[int] = collections.deque(maxlen=REMEMBERED)
        self._transit: float | None = None
        self._next: int | None = None
        self._waiting: dict[int, Piece] = {}
        self._waits_since = 0.0
        self._last_at = 0.0
        self._filled = 0
        self._lead = _Lead()

    @property
    def lost(self) -> int:
        """Pieces that never came, as their numbers tell."""
        expected = self._highest_sequence - self._first_sequence + 1 if self.received else 0
        return max(0, expected - self.received)

    @property
    def due_at(self) -> float | None:
        """When `overdue` is to be asked; None before the first piece."""
        if self._next is None:
            return None
        if self._waiting:
            return self._waits_since + self._wait_seconds
        return self._last_at + STARVED_SECONDS + self._filled * FRAME_SECONDS

    def push(self, position: int, piece: Piece | None, at: float, *, sequence: int) -> list[Piece]:
        """Take in a piece, and return the frames that pass on now. None: a number that carried no sound."""
        if sequence in self._seen:
            return []
        self._count(sequence)
        if piece is None or not len(piece):
            return []
        self._measure_jitter(position, at)
        self._last_at = at
        if self._next is None or not -LONGEST_PAUSE <= position - self._next <= LONGEST_PAUSE:
            self._begin(position, at)
        assert self._next is not None
        if position + len(piece) <= self._next:
            self.late += 1
            return []
        if not self._waiting:
            self._waits_since = at
        self._waiting[position] = piece
        frames = self._take_waiting()
        self._filled = 0
        return self._on_our_clock(frames, at)

    def overdue(self, at: float) -> list[Piece]:
        """Return what passes on although nothing came: what was made up, and what waited behind it."""
        due_at = self.due_at
        if due_at is None or at < due_at:
            return []
        if self._waiting:
            return self._on_our_clock(self._close_gap(at), at)
        self._filled += 1
        return self._on_our_clock([self._pieces.silence], at)

    @property
    def _wait_seconds(self) -> float:
        return min(LONGEST_WAIT_SECONDS, max(SHORTEST_WAIT_SECONDS, WAIT_PER_JITTER * self.jitter_seconds))

    def _count(self, sequence: int) -> None:
        self._seen.append(sequence)
        if not self.received:
            self._first_sequence = self._highest_sequence = sequence
        self.received += 1
        self._first_sequence = min(self._first_sequence, sequence)
        self._highest_sequence = max(self._highest_sequence, sequence)

    def _measure_jitter(self, position: int, at: float) -> None:
        transit = at - position / RATE_HZ
        if self._transit is not None and abs(transit - self._transit) < 1:
            self.jitter_seconds += (abs(transit - self._transit) - self.jitter_seconds) / 16
        self._transit = transit

    def _begin(self, position: int, at: float) -> None:
        self._next = position
        self._waiting.clear()
        self._lead.begin(at)

    def _take_waiting(self) -> list[Piece]:
        """Return the frames up to the first gap."""
        assert self._next is not None
        pieces = []
        while self._waiting:
            first = min(self._waiting)
            if first > self._next:
                break
            piece = self._waiting.pop(first)
            if first + len(piece) > self._next:
                pieces.append(self._pieces.after(piece, self._next - first))
                self._next = first + len(piece)
        return self._pieces.take(pieces)

    def _close_gap(self, at: float) -> list[Piece]:
        """Fill the gap before what waits, and return that and what waited."""
        assert self._next is not None
        missing = min(self._waiting) - self._next
        if missing <= MOST_CONCEALED:
            frames = self._pieces.make_up(missing)
            self.concealed += len(frames)
        else:  # some of this pause has passed on already
            frames = self._pieces.pause(max(0, missing // FRAME_SAMPLES - self._filled))
        self._next += missing
        self._waits_since = at
        return frames + self._take_waiting()

    def _on_our_clock(self, frames: list[Piece], at: float) -> list[Piece]:
        passed = []
        for frame in frames:
            seconds = len(frame) / RATE_HZ
            drift = self._lead.after(seconds, at)
            if abs(drift) > DRIFT_SECONDS and self._pieces.is_quiet(frame):
                self._lead.correct(-seconds if drift > 0 else seconds)
                if drift > 0:
                    self.skipped += 1
                    continue
                self.added += 1
                passed.append(frame)
            passed.append(frame)
        return passed


class _Lead:
    """How far what passed on is ahead of our clock, compared with the beginning. Only what came soonest counts."""

    def __init__(self) -> None:
        self._began = 0.0
        self._passed_seconds = 0.0
        self._window_ends = 0.0
        self._most: float | None = None
        self._baseline: float | None = None
        self._drift = 0.0

    def begin(self, at: float) -> None:
        self._began, self._passed_seconds = at, 0.0
        self._window_ends = at + DRIFT_WINDOW_SECONDS
        self._most = self._baseline = None
        self._drift = 0.0

    def after(self, seconds: float, at: float) -> float:
        """Return the drift, after so much more sound has passed on."""
        self._passed_seconds += seconds
        lead = self._passed_seconds - (at - self._began)
        self._most = lead if self._most is None else max(self._most, lead)
        if at >= self._window_ends:
            if self._baseline is None:
                self._baseline = self._most
            self._drift = self._most - self._baseline
            self._most, self._window_ends = None, at + DRIFT_WINDOW_SECONDS
        return self._drift

    def correct(self, seconds: float) -> None:
        self._passed_seconds += seconds
        self._drift += seconds
        if self._most is not None:
            self._most += seconds
