"""A week of the calendar, laid out for a page: days with what is open, what is booked, and a strip that shows both."""

from __future__ import annotations

import dataclasses
import datetime

from django.utils import timezone

from agents.models import Appointment, Closure, OpeningHours

DAY_MINUTES = 24 * 60
# What the strips show at least.
EARLIEST, LATEST = 8 * 60, 18 * 60


@dataclasses.dataclass(frozen=True)
class Block:
    """A stretch on a day's strip, in percent of its width. `kind`: open or booked."""

    kind: str
    x: float
    width: float


@dataclasses.dataclass(frozen=True)
class Day:
    date: datetime.date
    is_today: bool
    hours: list[OpeningHours]
    closure: Closure | None
    appointments: list[Appointment]
    blocks: list[Block]

    @property
    def is_closed(self) -> bool:
        return self.closure is not None or not self.hours

    @property
    def booked(self) -> int:
        return sum(each.status == Appointment.Status.BOOKED for each in self.appointments)


@dataclasses.dataclass(frozen=True)
class Week:
    days: list[Day]

    @property
    def first(self) -> datetime.date:
        return self.days[0].date

    @property
    def last(self) -> datetime.date:
        return self.days[-1].date

    @property
    def before(self) -> datetime.date:
        return self.first - datetime.timedelta(days=7)

    @property
    def after(self) -> datetime.date:
        return self.first + datetime.timedelta(days=7)

    @property
    def booked(self) -> int:
        return sum(day.booked for day in self.days)


def week_of(date: datetime.date) -> Week:
    """Return the week from Monday that holds a date, in the active time zone."""
    monday = date - datetime.timedelta(days=date.weekday())
    dates = [monday + datetime.timedelta(days=each) for each in range(7)]
    start, end = (
        timezone.make_aware(datetime.datetime.combine(each, datetime.time()))
        for each in (monday, monday + datetime.timedelta(days=7))
    )
    hours = list(OpeningHours.objects.all())
    closures = list(Closure.objects.filter(first_date__lte=dates[-1], last_date__gte=monday))
    found = list(Appointment.objects.between(start, end).select_related("service", "contact"))
    scale = _scale(hours, found)
    return Week([_day(each, hours, closures, found, scale) for each in dates])


def _day(
    date: datetime.date,
    hours: list[OpeningHours],
    closures: list[Closure],
    found: list[Appointment],
    scale: tuple[int, int],
) -> Day:
    closure = next((each for each in closures if each.first_date <= date <= each.last_date), None)
    open_then = [each for each in hours if each.weekday == date.weekday()]
    appointments = [each for each in found if timezone.localtime(each.starts_at).date() == date]
    blocks = (
        []
        if closure
        else [_block("open", _minutes(each.opens_at), _minutes(each.closes_at), scale) for each in open_then]
    )
    blocks += [
        _block("booked", *_span(each), scale) for each in appointments if each.status == Appointment.Status.BOOKED
    ]
    return Day(
        date=date,
        is_today=date == timezone.localdate(),
        hours=open_then,
        closure=closure,
        appointments=appointments,
        blocks=blocks,
    )


def _scale(hours: list[OpeningHours], found: list[Appointment]) -> tuple[int, int]:
    """Return the first and the last minute of the day that the strips show."""
    spans = [(_minutes(each.opens_at), _minutes(each.closes_at)) for each in hours] + [_span(each) for each in found]
    return min([EARLIEST, *(first for first, _ in spans)]), max([LATEST, *(last for _, last in spans)])


def _span(appointment: Appointment) -> tuple[int, int]:
    start, end = timezone.localtime(appointment.starts_at), timezone.localtime(appointment.ends_at)
    return _minutes(start.time()), _minutes(end.time()) if end.date() == start.date() else DAY_MINUTES


def _block(kind: str, first: int, last: int, scale: tuple[int, int]) -> Block:
    whole = scale[1] - scale[0]
    return Block(kind, round(100 * (first - scale[0]) / whole, 2), round(100 * (last - first) / whole, 2))


def _minutes(at: datetime.time) -> int:
    return at.hour * 60 + at.minute
