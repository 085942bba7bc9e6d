"""How often somebody may ask: a minute's worth at once, then one by one. In this process alone, and bounded.

Source: the generic cell rate algorithm (ITU-T I.371), which keeps one time for each key.
"""

from __future__ import annotations

from typing import Generic, TypeVar

MOST_KEYS = 100_000

Key = TypeVar("Key")


class Rates(Generic[Key]):
    """`per_minute`: 0 sets no limit. Times are seconds of one monotonic clock."""

    def __init__(self, per_minute: int, *, most_keys: int = MOST_KEYS) -> None:
        self._pause_seconds = 60 / per_minute if per_minute else 0.0
        self._most_keys = most_keys
        self._free_at: dict[Key, float] = {}
        """When each key will have used up nothing; oldest request last moved to the end."""

    def __len__(self) -> int:
        return len(self._free_at)

    def take(self, key: Key, at: float) -> bool:
        """Return whether the key may ask now; one that may not is none the worse for having tried."""
        if not self._pause_seconds:
            return True
        free_at = max(self._free_at.pop(key, at), at) + self._pause_seconds
        may = free_at - at <= 60.001  # sums of fractions are no whole minute
        self._free_at[key] = free_at if may else free_at - self._pause_seconds
        if len(self._free_at) > self._most_keys:
            self._forget(at)
        return may

    def _forget(self, at: float) -> None:
        """Forget who has used up nothing, and where that is not enough, who asked longest ago."""
        self._free_at = {key: free_at for key, free_at in self._free_at.items() if free_at > at}
        while len(self._free_at) > self._most_keys * 3 // 4:
            del self._free_at[next(iter(self._free_at))]
