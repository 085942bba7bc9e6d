"""Durations counted in buckets, so that percentiles over many days are read from few rows.

A bucket is 5 % wide: percentiles are right within 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

GROWTH = 1.05
COUNT = 240
"""Bucket n holds durations from GROWTH^n ms; the last all from two minutes up."""

BUCKET_SQL = f"least({COUNT - 1}, floor(ln(greatest({{ms}}, 1)) / ln({GROWTH})))::int"
"""The bucket of a duration, as SQL; `{ms}` stands for it."""


def add_up(histograms: Iterable[Sequence[int]]) -> list[int]:
    total = [0] * COUNT
    for histogram in histograms:
        for bucket, count in enumerate(histogram):
            if count:
                total[bucket] += count
    return total


def percentile(histogram: Sequence[int], share: float) -> int | None:
    """Return the duration in ms under which `share` (0 to 1) of all are; None where there are none."""
    left = math.ceil(sum(histogram) * share)
    if not left:
        return None
    for bucket, count in enumerate(histogram):
        left -= count
        if left <= 0:
            return round(GROWTH ** (bucket + 0.5))
    raise AssertionError("the counts do not add up")


def summary(days: Sequence[Any]) -> dict[str, Any]:
    """Add up rows of CallDay, or hours like them.

    Return counts, duration_ms, minutes, turns, cost_nano_dollars, and percentiles in ms.
    """
    first_audio = add_up(day.first_audio_histogram for day in days)
    turn = add_up(day.turn_histogram for day in days)
    duration_ms = sum(day.duration_ms for day in days)
    return {
        "calls": sum(day.calls for day in days),
        "failed_calls": sum(day.failed_calls for day in days),
        "duration_ms": duration_ms,
        "minutes": round(duration_ms / 60_000, 1),
        "turns": sum(day.turns for day in days),
        "cost_nano_dollars": sum(day.cost_nano_dollars for day in days),
        "first_audio_ms_p50": percentile(first_audio, 0.5),
        "first_audio_ms_p95": percentile(first_audio, 0.95),
        "turn_ms_p50": percentile(turn, 0.5),
        "turn_ms_p95": percentile(turn, 0.95),
    }
