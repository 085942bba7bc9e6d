"""How long both sides of a call were there, and the gaps in which one was not. Monotonic seconds in, whole ms out."""

from __future__ import annotations


class TalkClock:
    """Runs while both sides are joined: nobody is billed for silence.

    A gap begins when a side is lost and ends when the caller hears an agent again.
    """

    __slots__ = ("_gap_from", "_since", "_talked_ms", "longest_gap_ms", "untold_gap_ms")

    def __init__(self, *, talked_ms: int = 0, longest_gap_ms: int = 0) -> None:
        self._talked_ms = float(talked_ms)
        self._since: float | None = None
        self._gap_from: float | None = None
        self.longest_gap_ms = longest_gap_ms
        self.untold_gap_ms: int | None = None
        """The last gap, until the caller is told of it."""

    @property
    def runs(self) -> bool:
        return self._since is not None

    def start(self, at: float) -> None:
        if self._since is None:
            self._since = at

    def stop(self, at: float) -> None:
        """Stop as of `at`, which may lie a while back: a loss is seen later than it came."""
        if self._since is not None:
            self._talked_ms += max(0.0, at - self._since) * 1000
            self._since = None

    def talked_ms(self, at: float) -> int:
        return round(self._talked_ms + (0.0 if self._since is None else (at - self._since) * 1000))

    def begin_gap(self, at: float) -> None:
        """The agent is gone as of `at`. A gap that lasts goes on."""
        self.stop(at)
        if self._gap_from is None:
            self._gap_from = at

    def end_gap(self, at: float) -> int | None:
        """The caller hears an agent as of `at`. Returns how long none was heard; None where there was no gap."""
        if self._gap_from is None:
            return None
        gap_ms = max(0, round((at - self._gap_from) * 1000))
        self._gap_from = None
        self.untold_gap_ms = gap_ms
        self.note_gap(gap_ms)
        return gap_ms

    def note_gap(self, gap_ms: int) -> None:
        self.longest_gap_ms = max(self.longest_gap_ms, gap_ms)
