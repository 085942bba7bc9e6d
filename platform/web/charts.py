"""Geometry of the charts that pages draw as SVG. Knows nothing of models or requests; colours are CSS classes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 1000.0, 100.0
"""The plot's own coordinates; the page stretches it."""

Format = Callable[[float], str]


@dataclasses.dataclass(frozen=True)
class Series:
    """One value for each label; None where nothing was measured. `tone` names its colour: s1 … s6, warm, cold, …"""

    name: str
    values: Sequence[float | None]
    tone: str = "s1"


@dataclasses.dataclass(frozen=True)
class Trace:
    name: str
    tone: str
    path: str
    area: str = ""
    dots: str = ""


@dataclasses.dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart ready for `{% chart %}`."""

    summary: str
    ticks: list[str]
    dates: list[str]
    series: Sequence[Series]
    traces: list[Trace] = dataclasses.field(default_factory=list)
    bars: list[Bar] = dataclasses.field(default_factory=list)
    goal_y: float | None = None
    points: str = ""
    """JSON of labels and formatted values, for the readout under the pointer."""

    @property
    def is_empty(self) -> bool:
        return not any(value for each in self.series for value in each.values)


@dataclasses.dataclass(frozen=True)
class Step:
    """One row of a waterfall: a duration and where it starts on the page's own scale."""

    name: str
    start_ms: float
    duration_ms: float
    tone: str = "s1"
    note: str = ""
    is_total: bool = False


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a whole, such as a part of a call's cost. `how` is the arithmetic behind it, in words."""

    name: str
    value: int
    tone: str = "s1"
    how: str = ""


def nice_ceiling(value: float) -> float:
    """Return the round number at or above a value that a scale of four equal steps can end with."""
    if value <= 0:
        return 1.0
    magnitude = 10 ** math.floor(math.log10(value))
    return next(
        step * magnitude for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * magnitude >= value * 0.9999
    )


def line_chart(
    labels: Sequence[str], series: Sequence[Series], *, number: Format, goal: float | None = None, filled: bool = False
) -> Chart:
    """Return one line for each series. `goal` draws a dashed line at that value."""
    top = nice_ceiling(max([value for each in series for value in each.values if value is not None] + [goal or 0.0]))
    step = WIDTH / max(1, len(labels) - 1)
    traces = []
    for each in series:
        points = [
            None if value is None else (index * step, HEIGHT * (1 - value / top))
            for index, value in enumerate(each.values)
        ]
        path = _path(points)
        drawn = [point for point in points if point is not None]
        area = (
            f"{path} L{drawn[-1][0]:.1f},{HEIGHT:g} L{drawn[0][0]:.1f},{HEIGHT:g} Z"
            if filled and len(drawn) > 1
            else ""
        )
        traces.append(Trace(each.name, each.tone, path, area, _dots(points)))
    return Chart(
        summary=_summary(labels, series, number),
        ticks=_ticks(top, number),
        dates=_spread(labels),
        series=series,
        traces=traces,
        goal_y=None if goal is None else HEIGHT * (1 - goal / top),
        points=_points(labels, series, number),
    )


def bar_chart(labels: Sequence[str], series: Sequence[Series], *, number: Format) -> Chart:
    """Return one bar for each label, the series stacked on each other from the bottom."""
    totals = [sum(each.values[index] or 0 for each in series) for index in range(len(labels))]
    top = nice_ceiling(max(totals, default=0))
    if all(total == int(total) for total in totals):
        top = max(4.0, 4 * math.ceil(top / 4))  # the scale of what is counted has no halves
    slot = WIDTH / max(1, len(labels))
    gap = slot * 0.25
    bars = []
    for index in range(len(labels)):
        y = HEIGHT
        for each in series:
            height = HEIGHT * (each.values[index] or 0) / top
            if height:
                y -= height
                bars.append(
                    Bar(
                        round(index * slot + gap / 2, 2), round(y, 2), round(slot - gap, 2), round(height, 2), each.tone
                    )
                )
    return Chart(
        summary=_summary(labels, series, number),
        ticks=_ticks(top, number),
        dates=_spread(labels),
        series=series,
        bars=bars,
        points=_points(labels, series, number),
    )


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Join points; a None lifts the pen."""
    commands, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        commands.append(f"{pen}{point[0]:.1f},{point[1]:.2f}")
        pen = "L"
    return " ".join(commands)


def _dots(points: Sequence[tuple[float, float] | None]) -> str:
    """Return the points that no line reaches, as lines of no length: their round ends are what is seen."""
    padded = [None, *points, None]
    alone = [
        point
        for before, point, after in zip(padded, padded[1:], padded[2:], strict=False)
        if point is not None and before is None and after is None
    ]
    return " ".join(f"M{x:.1f},{y:.2f}h0" for x, y in alone)


def _ticks(top: float, number: Format) -> list[str]:
    return [number(top * quarter / 4) for quarter in (4, 3, 2, 1, 0)]


def _spread(labels: Sequence[str], most: int = 6) -> list[str]:
    """Return some labels at equal distances, the first and the last among them."""
    if len(labels) <= most:
        return list(labels)
    return [labels[round(index * (len(labels) - 1) / (most - 1))] for index in range(most)]


def _summary(labels: Sequence[str], series: Sequence[Series], number: Format) -> str:
    """Say in a sentence what the chart shows, for those who do not see it."""
    said = []
    for each in series:
        known = [value for value in each.values if value is not None]
        said.append(
            f"{each.name}: last {number(known[-1])}, highest {number(max(known))}"
            if known
            else f"{each.name}: nothing yet"
        )
    span = f"From {labels[0]} to {labels[-1]}. " if labels else ""
    return span + "; ".join(said) + "."


def _points(labels: Sequence[str], series: Sequence[Series], number: Format) -> str:
    return json.dumps(
        {
            "labels": list(labels),
            "values": [["–" if value is None else number(value) for value in each.values] for each in series],
        }
    )
