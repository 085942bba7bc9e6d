"""A figure that was measured, beside the goal it is to reach."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Figure:
    """`goal`: what it must stay under, or with `at_least` reach; None: it is shown for what it tells."""

    name: str
    value: float
    unit: str = "ms"
    goal: float | None = None
    at_least: bool = False
    samples: int = 1

    @property
    def is_reached(self) -> bool:
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value < self.goal

    def __str__(self) -> str:
        verdict = "" if self.goal is None else "reached" if self.is_reached else "MISSED"
        goal = "" if self.goal is None else f"{'≥' if self.at_least else '<'} {self.goal:,.0f}"
        value = f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:,.1f}"
        return f"{self.name:<62} {value:>9} {self.unit:<3} {goal:>8}  {verdict:<8} n={self.samples}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
