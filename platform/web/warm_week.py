"""A pool's warm hours laid out for a page: seven strips of a day, each with what is kept warm when."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from provisioning.warm_hours import DAY_MINUTES, DAYS, WEEK_MINUTES, WarmWindow


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A part of a day's strip, in percent of its width."""

    x: float
    width: float
    window: WarmWindow


@dataclasses.dataclass(frozen=True)
class DayStrip:
    name: str
    stretches: list[Stretch]


def strips_of(windows: Sequence[WarmWindow]) -> list[DayStrip]:
    """Return the week from Monday. A window over midnight goes on in the next day, and Sunday's on Monday."""
    stretches: list[list[Stretch]] = [[] for _ in DAYS]
    for window in windows:
        for day in window.days:
            minute = day * DAY_MINUTES + window.begins_at.hour * 60 + window.begins_at.minute
            left = window.minutes
            while left:
                in_day = minute % DAY_MINUTES
                lasts = min(left, DAY_MINUTES - in_day)
                stretch = Stretch(_percent(in_day), _percent(lasts), window)
                stretches[minute % WEEK_MINUTES // DAY_MINUTES].append(stretch)
                minute, left = minute + lasts, left - lasts
    return [DayStrip(name, sorted(found, key=lambda each: each.x)) for name, found in zip(DAYS, stretches, strict=True)]


def _percent(minutes: int) -> float:
    return round(100 * minutes / DAY_MINUTES, 2)
