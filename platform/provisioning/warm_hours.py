"""Warm hours: weekly windows in which a pool keeps other numbers of containers, by the clocks of its tenant.

A window begins and ends at the first moment at which the clocks show its time or a later one. Where daylight saving
skips that time this is when they jump past it, and where it repeats it, the first time round: so windows that do not
overlap in a common week do not overlap in any. Times are minutes of the clock; no Django, no database.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
MOST_WINDOWS = 21
MOST_CONTAINERS = 100
ONE_DAY = datetime.timedelta(days=1)
ONE_MINUTE = datetime.timedelta(minutes=1)
LONGEST_WEEK = datetime.timedelta(days=7, hours=2)
"""With an hour that comes twice in it, and some to spare."""


class WindowRefused(ValueError):
    """Windows that cannot be kept. The sentence may be shown."""


class Kept(NamedTuple):
    """How many containers a pool keeps."""

    min_containers: int
    buffer_containers: int


@dataclasses.dataclass(frozen=True, slots=True)
class WarmWindow:
    """A stretch of some days of the week, and what a pool keeps in it in the place of its own numbers."""

    days: tuple[int, ...]
    """On which it begins; 0 is Monday."""
    begins_at: datetime.time
    ends_at: datetime.time
    """On the next day where it is not after `begins_at`: from 22:00 to 06:00, or from 00:00 to 00:00."""
    min_containers: int
    buffer_containers: int = 0

    @property
    def minutes(self) -> int:
        """How long it lasts, up to a whole day."""
        return (_minutes(self.ends_at) - _minutes(self.begins_at)) % DAY_MINUTES or DAY_MINUTES

    @property
    def kept(self) -> Kept:
        return Kept(self.min_containers, self.buffer_containers)

    @property
    def hours_words(self) -> str:
        return f"{days_words(self.days)} {self.begins_at:%H:%M}–{self.ends_at:%H:%M}"

    def __str__(self) -> str:
        reserve = f", {self.buffer_containers} in reserve" if self.buffer_containers else ""
        return f"{self.hours_words}: {self.min_containers} warm{reserve}"

    def to_document(self) -> dict[str, Any]:
        return {
            "days": list(self.days),
            "begins_at": f"{self.begins_at:%H:%M}",
            "ends_at": f"{self.ends_at:%H:%M}",
            "min_containers": self.min_containers,
            "buffer_containers": self.buffer_containers,
        }


Stretch = tuple[datetime.datetime, datetime.datetime, WarmWindow]
"""When a window begins and ends, once."""


@dataclasses.dataclass(frozen=True, slots=True)
class WarmHours:
    """A pool's windows on the clocks of a time zone, and what it keeps outside of them."""

    windows: tuple[WarmWindow, ...]
    zone: datetime.tzinfo
    else_kept: Kept

    def window_at(self, at: datetime.datetime) -> WarmWindow | None:
        """Return the window that holds at a moment."""
        return _held(self._stretches(at), at)

    def kept_at(self, at: datetime.datetime) -> Kept:
        return self._kept(self.window_at(at))

    def next_change(self, after: datetime.datetime) -> tuple[datetime.datetime, Kept] | None:
        """Return when the numbers change next, and to what; None where they never do."""
        stretches = list(self._stretches(after, days_ahead=8))
        now = self._kept(_held(stretches, after))
        edges = {edge for begin, end, _ in stretches for edge in (begin, end)}
        for edge in sorted(edge for edge in edges if after < edge < after + LONGEST_WEEK):
            if (then := self._kept(_held(stretches, edge))) != now:
                return edge, then
        return None

    def _kept(self, window: WarmWindow | None) -> Kept:
        return self.else_kept if window is None else window.kept

    def _stretches(self, at: datetime.datetime, *, days_ahead: int = 1) -> Iterator[Stretch]:
        """Give the windows around a moment, each with when it begins and ends."""
        today = at.astimezone(self.zone).date()
        for ahead in range(-1, days_ahead + 1):
            day = today + ahead * ONE_DAY
            for window in self.windows:
                if day.weekday() in window.days:
                    last_day = day if window.ends_at > window.begins_at else day + ONE_DAY
                    begin = _first_moment(day, window.begins_at, self.zone)
                    yield begin, _first_moment(last_day, window.ends_at, self.zone), window


def read_windows(documents: Any) -> tuple[WarmWindow, ...]:
    """Return the windows of their documents, by when they begin in the week.

    Raises:
        WindowRefused: one is not of its form, or two overlap.
    """
    if not isinstance(documents, list) or len(documents) > MOST_WINDOWS:
        raise WindowRefused(f"Warm hours are a list of up to {MOST_WINDOWS} windows.")
    windows = sorted(map(_read_window, documents), key=lambda window: (window.days, window.begins_at))
    _refuse_overlaps(windows)
    return tuple(windows)


def days_words(days: Sequence[int]) -> str:
    """Return days of the week in words: "Mon–Fri", "Mon, Wed, Sat–Sun", "Every day"."""
    if len(days) == len(DAYS):
        return "Every day"
    runs = [
        [day for _, day in run]
        for _, run in itertools.groupby(enumerate(sorted(days)), key=lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}–{DAYS[run[-1]]}" for run in runs)


def _held(stretches: Iterable[Stretch], at: datetime.datetime) -> WarmWindow | None:
    return next((window for begin, end, window in stretches if begin <= at < end), None)


def _read_window(document: Any) -> WarmWindow:
    try:
        window = WarmWindow(
            days=tuple(sorted({int(day) for day in document["days"]})),
            begins_at=datetime.time.fromisoformat(document["begins_at"]).replace(second=0, microsecond=0, tzinfo=None),
            ends_at=datetime.time.fromisoformat(document["ends_at"]).replace(second=0, microsecond=0, tzinfo=None),
            min_containers=int(document["min_containers"]),
            buffer_containers=int(document.get("buffer_containers", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise WindowRefused("A window has days, two times like 08:00, and numbers of containers.") from None
    if not window.days or not set(window.days) <= set(range(len(DAYS))):
        raise WindowRefused("A window needs at least one day of the week.")
    for number in (window.min_containers, window.buffer_containers):
        if not 0 <= number <= MOST_CONTAINERS:
            raise WindowRefused(f"A window keeps from 0 to {MOST_CONTAINERS} containers.")
    return window


def _refuse_overlaps(windows: Iterable[WarmWindow]) -> None:
    """Compare each stretch of the week with the next one, and the last with the first of the week after."""
    stretches = sorted(
        ((day * DAY_MINUTES + _minutes(window.begins_at), window) for window in windows for day in window.days),
        key=lambda stretch: stretch[0],
    )
    if not stretches:
        return
    first_minute, first = stretches[0]
    for (minute, window), (next_minute, after) in itertools.pairwise(
        [*stretches, (first_minute + WEEK_MINUTES, first)]
    ):
        if minute + window.minutes > next_minute:
            raise WindowRefused(
                f"{window.hours_words} and {after.hours_words} overlap: at each moment one window can hold."
            )


def _first_moment(day: datetime.date, at: datetime.time, zone: datetime.tzinfo) -> datetime.datetime:
    """Return the first moment at which the clocks show a time of a day or, where it is skipped, a later one."""
    shown = datetime.datetime.combine(day, at)
    while True:
        moment = shown.replace(tzinfo=zone).astimezone(datetime.UTC)
        if moment.astimezone(zone).replace(tzinfo=None, fold=0) == shown:
            return moment
        shown += ONE_MINUTE


def _minutes(at: datetime.time) -> int:
    return at.hour * 60 + at.minute
