"""Who pays for a container's seconds. Pure arithmetic on whole milliseconds and nano-dollars; no database, no clock.

Amounts are rounded once and split by largest remainder, so that parts always add up to what they are parts of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """From `start_ms` up to `end_ms`, on any one clock. Empty where the end is not after the start."""

    start_ms: int
    end_ms: int

    @property
    def milliseconds(self) -> int:
        return max(0, self.end_ms - self.start_ms)

    def within(self, other: Interval) -> Interval:
        """Return what lies in both."""
        return Interval(max(self.start_ms, other.start_ms), min(self.end_ms, other.end_ms))


def cost_of(milliseconds: int, rate_nano_dollars_per_second: int) -> int:
    """Return nano-dollars, rounded half up."""
    return (milliseconds * rate_nano_dollars_per_second + 500) // 1000


def shared_milliseconds(sessions: Mapping[Key, Interval]) -> dict[Key, Fraction]:
    """Return each session's share of the time in which it was there: a moment with n sessions counts 1/n for each.

    The shares add up to the time in which there was any session.
    """
    shares = {key: Fraction(0) for key in sessions}
    present: dict[Key, None] = {}
    previous_ms = 0
    # Leaving comes before coming at one moment, so that an empty stretch stays empty.
    edges = sorted(
        edge
        for position, (key, interval) in enumerate(sessions.items())
        if interval.milliseconds
        for edge in ((interval.start_ms, 1, position), (interval.end_ms, 0, position))
    )
    keys = list(sessions)
    for at_ms, comes, position in edges:
        for key in present:
            shares[key] += Fraction(at_ms - previous_ms, len(present))
        previous_ms = at_ms
        if comes:
            present[keys[position]] = None
        else:
            del present[keys[position]]
    return shares


def split_exactly(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """Split a whole amount by weights, by largest remainder; equally where all weights are zero.

    Raises:
        ValueError: there is nobody to split it among, or a weight or the total is negative.
    """
    if not weights or total < 0 or min(weights) < 0:
        raise ValueError("A whole amount is split among one or more weights, none of them negative.")
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    exact = [Fraction(total) * weight / whole for weight in weights]
    parts = [amount.numerator // amount.denominator for amount in exact]
    by_remainder = sorted(range(len(parts)), key=lambda place: (parts[place] - exact[place], place))
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts


def provisional_cost(held: Interval, others: Sequence[Interval], rate_nano_dollars_per_second: int) -> int:
    """Return what a session's own time costs: active seconds × rate ÷ sessions sharing the container, in nano-dollars.

    `others`: the container's other sessions, as far as they are known when this one ends.
    """
    sessions = {"held": held, **{str(place): other.within(held) for place, other in enumerate(others)}}
    share = shared_milliseconds(sessions)["held"] * rate_nano_dollars_per_second / 1000
    return (2 * share.numerator + share.denominator) // (2 * share.denominator)


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement(Generic[Key]):
    """A stretch of a container's life, paid to the nano-dollar. `unserved_*`: nobody was served; the pool pays."""

    active: dict[Key, int]
    cold_start: dict[Key, int]
    idle: dict[Key, int]
    unserved_cold_start: int = 0
    unserved_idle: int = 0

    @property
    def total(self) -> int:
        shares = (self.active, self.cold_start, self.idle)
        return sum(sum(part.values()) for part in shares) + self.unserved_cold_start + self.unserved_idle


def settle(
    *,
    stretch: Interval,
    ready_ms: int,
    sessions: Mapping[Key, Interval],
    rate_nano_dollars_per_second: int,
    shared_over: Interval | None = None,
) -> Settlement[Key]:
    """Share the cost of a stretch of a container's life among the sessions in it.

    Idle time and cold start go to the sessions in proportion to their active time. Times count from the container's
    start, so that the costs of stretches that follow on each other add up to the cost of the whole life.

    Args:
        stretch: what is settled now, from 0 or where the last settlement ended.
        ready_ms: when it could talk; before that it was starting.
        shared_over: a longer stretch whose sessions share in idle time and cold start; this one alone where it is left
            out.
    """
    rate = rate_nano_dollars_per_second
    if not stretch.milliseconds:
        return Settlement({}, {}, {})
    total = cost_of(stretch.end_ms, rate) - cost_of(stretch.start_ms, rate)
    shares = _served(sessions, stretch, ready_ms)
    ready = Interval(max(stretch.start_ms, ready_ms), stretch.end_ms)
    cold_ms = stretch.milliseconds - ready.milliseconds
    idle_ms = ready.milliseconds - sum(shares.values())
    cold, idle, *active = split_exactly(total, [cold_ms, idle_ms, *shares.values()])
    sharing = _served(sessions, shared_over or stretch, ready_ms)
    if not sharing:
        return Settlement({}, {}, {}, unserved_cold_start=cold, unserved_idle=idle)
    weights = list(sharing.values())
    return Settlement(
        active=dict(zip(shares, active, strict=True)),
        cold_start=dict(zip(sharing, split_exactly(cold, weights), strict=True)),
        idle=dict(zip(sharing, split_exactly(idle, weights), strict=True)),
    )


def _served(sessions: Mapping[Key, Interval], stretch: Interval, ready_ms: int) -> dict[Key, Fraction]:
    """Return the shares of those who were there in a stretch, once the container could talk."""
    ready = Interval(max(stretch.start_ms, ready_ms), stretch.end_ms)
    return shared_milliseconds(
        {key: part for key, held in sessions.items() if (part := held.within(ready)).milliseconds}
    )


def billed_corrections(
    spent: Mapping[Key, int], *, estimated: Mapping[Key, int], billed: int, nobody: Key
) -> dict[Key, int]:
    """Return what is to be added to each part of what was spent, so that together they are what was billed.

    Each part comes to its share of the bill, in proportion to the estimate of it, by largest remainder.

    Args:
        spent: nano-dollars by part: the estimate, and what earlier bills have added to it.
        estimated: the estimate alone, of the same parts.
        billed: nano-dollars.
        nobody: the part that a bill goes to where nothing was estimated.
    """
    weights = {key: max(0, estimated.get(key, 0)) for key in spent}
    if not any(weights.values()):
        weights = {nobody: 1}
    sign = -1 if billed < 0 else 1  # a credit
    shares = [sign * share for share in split_exactly(abs(billed), list(weights.values()))]
    wanted = dict(zip(weights, shares, strict=True))
    parts = dict.fromkeys([*spent, *wanted])
    return {key: wanted.get(key, 0) - spent.get(key, 0) for key in parts}
