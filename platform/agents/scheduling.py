"""Finding free times and booking them, in the business's own time zone."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from django.db import IntegrityError, transaction
from django.db.models import Q

from agents.models import Appointment, Closure, Contact, OpeningHours, Service
from tenants.models import Tenant
from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias

STEP = datetime.timedelta(minutes=15)
"""Appointments begin on quarters of an hour."""
HORIZON = datetime.timedelta(days=365)
SEARCH = datetime.timedelta(days=21)
"""How far from a wished time alternatives are looked for."""


class NotBookable(Exception):
    """A time cannot be booked. The sentence may be said to a caller; `alternatives` are free times near the wish."""

    def __init__(self, code: str, sentence: str, alternatives: list[datetime.datetime] | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.alternatives = alternatives or []


def time_zone() -> ZoneInfo:
    """Return the entered tenant's time zone."""
    return ZoneInfo(Tenant.objects.values_list("time_zone", flat=True).get(pk=entered_tenant_id()))


def local_time(wall: datetime.datetime, zone: ZoneInfo) -> datetime.datetime:
    """Return a wall-clock time with its zone.

    An hour that the clock skips in spring is read as the hour after; one that comes twice in autumn, as the first.
    """
    aware = wall.replace(tzinfo=zone) if wall.tzinfo is None else wall.astimezone(zone)
    return aware.astimezone(datetime.UTC).astimezone(zone)


def free_times(
    service: Service,
    *,
    first: datetime.datetime,
    last: datetime.datetime,
    now: datetime.datetime,
    besides: Appointment | None = None,
) -> Iterator[datetime.datetime]:
    """Yield the times at which the service can begin, in order, from `first` up to `last`.

    Args:
        besides: an appointment that is to be moved, and so does not stand in its own way.
    """
    zone = time_zone()
    first, last = max(first, now).astimezone(zone), last.astimezone(zone)
    hours: dict[int, list[OpeningHours]] = {}
    for stretch in OpeningHours.objects.all():
        hours.setdefault(stretch.weekday, []).append(stretch)
    closures = list(Closure.objects.filter(first_date__lte=last.date(), last_date__gte=first.date()))
    taken = Appointment.objects.booked().between(first, last + service.duration).filter(resource=service.resource)
    if besides is not None:
        taken = taken.exclude(pk=besides.pk)
    busy = sorted(taken.values_list("starts_at", "ends_at"))
    day = first.date()
    while day <= last.date():
        if not any(closure.first_date <= day <= closure.last_date for closure in closures):
            for stretch in hours.get(day.weekday(), []):
                opens = local_time(datetime.datetime.combine(day, stretch.opens_at), zone)
                closes = local_time(datetime.datetime.combine(day, stretch.closes_at), zone)
                # In UTC, so that a day with 23 or 25 hours is walked through evenly.
                at = opens.astimezone(datetime.UTC)
                while at + service.duration <= closes:
                    if (
                        now < at
                        and first <= at <= last
                        and not any(start < at + service.duration and end > at for start, end in busy)
                    ):
                        yield at.astimezone(zone)
                    at += STEP
        day += datetime.timedelta(days=1)


def alternatives_to(
    wish: datetime.datetime,
    service: Service,
    *,
    now: datetime.datetime,
    count: int = 3,
    besides: Appointment | None = None,
) -> list[datetime.datetime]:
    """Return the free times nearest to a wish, in order of time: those of the same day first, then the days after."""
    zone = time_zone()
    wish = wish.astimezone(zone)
    found = list(free_times(service, first=wish - STEP * 16, last=wish + SEARCH, now=now, besides=besides))
    same_day = [at for at in found if at.date() == wish.date()]
    nearest = sorted(same_day, key=lambda at: (abs(at - wish), at))[:count]
    later = [at for at in found if at.date() > wish.date()]
    for at in sorted(later, key=lambda each: (each.date(), abs(_minutes(each) - _minutes(wish)))):
        if len(nearest) >= count:
            break
        if all(other.date() != at.date() or abs(other - at) >= STEP * 4 for other in nearest):
            nearest.append(at)
    return sorted(nearest)


def book(
    *,
    service: Service,
    contact: Contact,
    starts_at: datetime.datetime,
    now: datetime.datetime,
    call_id: uuid.UUID | None = None,
    notes: str = "",
) -> Appointment:
    """Book a service.

    Raises:
        NotBookable: in the past, too far ahead, outside opening hours, or taken.
    """
    _take_turns(service)
    check_bookable(service, starts_at, now=now)
    # In UTC: adding to a local time would count the wall clock's hours, of which a day may skip or repeat one.
    starts_at = starts_at.astimezone(datetime.UTC)
    try:
        with transaction.atomic(using=current_alias()):
            return Appointment.objects.create(
                service=service,
                contact=contact,
                resource=service.resource,
                starts_at=starts_at,
                ends_at=starts_at + service.duration,
                call_id=call_id,
                notes=notes[:500],
            )
    except IntegrityError as problem:
        raise _taken(service, starts_at, now, problem) from problem


def move(appointment: Appointment, *, starts_at: datetime.datetime, now: datetime.datetime) -> Appointment:
    """Move a booked appointment to another time.

    Raises:
        NotBookable: as for book().
    """
    _take_turns(appointment.service)
    check_bookable(appointment.service, starts_at, now=now, besides=appointment)
    starts_at = starts_at.astimezone(datetime.UTC)
    try:
        with transaction.atomic(using=current_alias()):
            appointment.starts_at, appointment.ends_at = starts_at, starts_at + appointment.service.duration
            appointment.save(update_fields=["starts_at", "ends_at"])
    except IntegrityError as problem:
        raise _taken(appointment.service, starts_at, now, problem, besides=appointment) from problem
    return appointment


def _take_turns(service: Service) -> None:
    """Wait for whoever else is booking the same resource, until this transaction ends.

    The exclusion constraint refuses a double booking by itself. But two that insert at the same moment each wait for
    the other's outcome, which PostgreSQL ends as a deadlock after a second: a caller would be told of a failure.
    """
    list(
        Service.objects.filter(resource=service.resource)
        .order_by("pk")
        .select_for_update(no_key=True)
        .values_list("pk")
    )


def check_bookable(
    service: Service, starts_at: datetime.datetime, *, now: datetime.datetime, besides: Appointment | None = None
) -> None:
    """See that a time is one at which the service can begin.

    Raises:
        NotBookable
    """
    starts_at = starts_at.astimezone(datetime.UTC)
    if starts_at <= now:
        raise NotBookable("in_the_past", "That time has already passed.", _near(now, service, now, besides))
    if starts_at > now + HORIZON:
        raise NotBookable("too_far_ahead", "That is more than a year ahead, which I can't book yet.")
    if not list(hours_around(service, starts_at)):
        raise NotBookable(
            "closed", f"We are not open for a {service.name} then.", _near(starts_at, service, now, besides)
        )
    taken = Appointment.objects.booked().between(starts_at, starts_at + service.duration)
    if taken.filter(resource=service.resource).exclude(pk=besides.pk if besides else None).exists():
        raise NotBookable("slot_taken", "That time is already taken.", _near(starts_at, service, now, besides))


def hours_around(service: Service, starts_at: datetime.datetime) -> Iterator[OpeningHours]:
    """Yield the opening hours that a service beginning at this time fits into."""
    zone = time_zone()
    start = starts_at.astimezone(zone)
    end = (starts_at.astimezone(datetime.UTC) + service.duration).astimezone(zone)
    if start.date() != end.date():
        return
    if Closure.objects.filter(first_date__lte=start.date(), last_date__gte=start.date()).exists():
        return
    fitting = Q(weekday=start.weekday(), opens_at__lte=start.time(), closes_at__gte=end.time())
    yield from OpeningHours.objects.filter(fitting)


def _near(
    wish: datetime.datetime, service: Service, now: datetime.datetime, besides: Appointment | None
) -> list[datetime.datetime]:
    return alternatives_to(wish, service, now=now, besides=besides)


def _taken(
    service: Service,
    starts_at: datetime.datetime,
    now: datetime.datetime,
    problem: IntegrityError,
    besides: Appointment | None = None,
) -> NotBookable:
    if "no_double_booking" not in str(problem):
        raise problem
    return NotBookable("slot_taken", "That time was taken just now.", _near(starts_at, service, now, besides))


def _minutes(at: datetime.datetime) -> int:
    return at.hour * 60 + at.minute
