"""From how many minutes a month on one's own GPUs cost less than managed speech services. Arithmetic on nano-dollars.

Containers are counted on average over the hours in which the line is open: as many as the calls fill, or as many as are
kept warm, whichever is more. Outside of these hours none runs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

PRICES_FILE = Path(__file__).with_name("break_even.toml")
WEEKS_A_MONTH = Fraction(365, 84)
"""A twelfth of a year of 365 days, in weeks."""


class NotPossible(ValueError):
    """The figures contradict each other. Its message is for who entered them."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A price of an offer, and how much of it a minute of conversation takes."""

    name: str
    unit: str
    nano_dollars: int
    units: Fraction
    of: str = ""
    """Whose speech alone is counted: "caller", "agent"; empty: the whole conversation."""

    def a_minute(self, agent_percent: int) -> Fraction:
        share = {"agent": agent_percent, "caller": 100 - agent_percent}.get(self.of, 100)
        return self.nano_dollars * self.units * share / 100


@dataclasses.dataclass(frozen=True)
class Offer:
    slug: str
    name: str
    rows: tuple[Row, ...]

    def a_minute(self, agent_percent: int) -> int:
        """Return nano-dollars for a minute of conversation, rounded half up."""
        return math.floor(sum(row.a_minute(agent_percent) for row in self.rows) + Fraction(1, 2))


@dataclasses.dataclass(frozen=True)
class Situation:
    """What is asked about. `rate`: nano-dollars a second of one container."""

    minutes: int
    peak_calls: int
    open_hours_a_week: int
    sessions_per_container: int
    warm_containers: int
    fill_percent: int
    agent_percent: int
    rate: int

    @property
    def open_seconds(self) -> Fraction:
        """Of a month."""
        return self.open_hours_a_week * 3600 * WEEKS_A_MONTH

    @property
    def calls_on_average(self) -> Fraction:
        return self.minutes * 60 / self.open_seconds

    @property
    def peak_containers(self) -> int:
        return -(-self.peak_calls // self.sessions_per_container)

    @property
    def minutes_at_peak(self) -> int:
        """What would be talked if all lines were taken all the time."""
        return math.floor(self.peak_calls * self.open_seconds / 60)

    def containers(self, minutes: int | None = None) -> Fraction:
        """Return how many run on average while the line is open."""
        calls = (self.minutes if minutes is None else minutes) * 60 / self.open_seconds
        filled = calls * 100 / (self.sessions_per_container * self.fill_percent)
        return max(Fraction(self.warm_containers), min(filled, Fraction(max(self.peak_containers, math.ceil(calls)))))

    def own_cost(self, minutes: int | None = None) -> int:
        """Return nano-dollars a month, rounded half up."""
        return math.floor(self.containers(minutes) * self.open_seconds * self.rate + Fraction(1, 2))

    def check(self) -> None:
        """Raises: NotPossible"""
        if self.minutes > self.minutes_at_peak:
            raise NotPossible(
                f"{self.minutes:,} minutes in {self.open_hours_a_week} hours a week are "
                f"{float(self.calls_on_average):.1f} calls at a time on average, which is more than your peak of "
                f"{self.peak_calls}."
            )

    def break_even_minutes(self, managed_a_minute: int) -> int | None:
        """Return from how many minutes a month on the managed offer costs more; None where it never does."""
        most = self.minutes_at_peak
        if not managed_a_minute or self.own_cost(most) >= managed_a_minute * most:
            return None
        low, high = 0, most  # own costs lie above the managed ones at `low`, and not above them at `high`
        while high - low > 1:
            middle = (low + high) // 2
            if self.own_cost(middle) > managed_a_minute * middle:
                low = middle
            else:
                high = middle
        return high


@dataclasses.dataclass(frozen=True)
class Prices:
    """The editable file, read."""

    read_date: Any
    assumed: dict[str, int]
    sessions: dict[str, int]
    offers: dict[str, Offer]


@functools.cache
def prices() -> Prices:
    document = tomllib.loads(PRICES_FILE.read_text(), parse_float=Decimal)
    offers = {
        offer["slug"]: Offer(
            offer["slug"],
            offer["name"],
            tuple(Row(**{**row, "units": Fraction(row["units"])}) for row in offer["rows"]),
        )
        for offer in document["offer"]
    }
    return Prices(document["read_date"], document["assumed"], document["sessions"], offers)
