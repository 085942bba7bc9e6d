"""What people of a business do to its calendar by hand. Each change is audited; callers use agents.tools instead."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from django.utils import timezone

from agents import scheduling
from agents.contacts import keep_contact
from agents.models import Appointment, Closure, HandOff, Message, OpeningHours, Service
from agents.models.scheduling import WEEKDAYS
from tenants import audit
from tenants.models import User
from tenants.scope import atomic

Stretch = tuple[datetime.time, datetime.time]


class NotPossible(ValueError):
    """A journey is refused. The sentence may be shown to who asked for it."""


def book_by_hand(
    *,
    service: Service,
    starts_at: datetime.datetime,
    name: str,
    phone: str,
    email: str = "",
    notes: str = "",
    actor: User,
) -> Appointment:
    """Book a service for somebody.

    Raises:
        scheduling.NotBookable
    """
    with atomic():
        appointment = scheduling.book(
            service=service,
            contact=keep_contact(name=name, phone=phone, email=email),
            starts_at=starts_at,
            now=timezone.now(),
            notes=notes,
        )
        audit.record(action="appointment.booked", target=appointment, actor=actor)
    return appointment


def move_by_hand(*, appointment: Appointment, starts_at: datetime.datetime, actor: User) -> None:
    """Move a booked appointment.

    Raises:
        scheduling.NotBookable
    """
    before = appointment.starts_at
    with atomic():
        scheduling.move(appointment, starts_at=starts_at, now=timezone.now())
        audit.record(action="appointment.moved", target=appointment, actor=actor, details={"from": before.isoformat()})


def cancel_by_hand(*, appointment: Appointment, actor: User) -> None:
    """Cancel an appointment; nothing happens where it is cancelled already."""
    if appointment.status == Appointment.Status.CANCELLED:
        return
    with atomic():
        appointment.cancel()
        audit.record(action="appointment.cancelled", target=appointment, actor=actor)


def set_opening_hours(*, hours: Mapping[int, Sequence[Stretch]], actor: User) -> None:
    """Replace the opening hours; a weekday (0: Monday) with no stretch is closed. Appointments that exist stay.

    Raises:
        NotPossible: a stretch ends before it begins, or two overlap.
    """
    for weekday, stretches in hours.items():
        ordered = sorted(stretches)
        if any(closes <= opens for opens, closes in ordered):
            raise NotPossible(f"{WEEKDAYS[weekday]}: it cannot close before it opens.")
        if any(after[0] < before[1] for before, after in zip(ordered, ordered[1:], strict=False)):
            raise NotPossible(f"{WEEKDAYS[weekday]}: two stretches overlap.")
    with atomic():
        OpeningHours.objects.all().delete()
        for weekday, stretches in hours.items():
            for opens, closes in stretches:
                OpeningHours.objects.create(weekday=weekday, opens_at=opens, closes_at=closes)
        audit.record(action="opening_hours.changed", actor=actor)


def close_days(*, first: datetime.date, last: datetime.date, reason: str = "", actor: User) -> Closure:
    """Close on some days, both included. Appointments on them stay: the list shows whom to call.

    Raises:
        NotPossible: the last day is before the first.
    """
    if last < first:
        raise NotPossible("The last day is before the first.")
    with atomic():
        closure = Closure.objects.create(first_date=first, last_date=last, reason=reason.strip()[:120])
        audit.record(action="closure.added", target=closure, actor=actor)
    return closure


def reopen_days(*, closure: Closure, actor: User) -> None:
    with atomic():
        audit.record(action="closure.removed", target=closure, actor=actor)
        closure.delete()


def save_service(
    *,
    service: Service | None,
    name: str,
    duration_minutes: int,
    price_cents: int | None,
    resource: str,
    is_active: bool,
    actor: User,
) -> Service:
    """Add a service, or change one. Appointments that exist keep their times.

    Raises:
        NotPossible: another service has the name.
    """
    name = name.strip()
    others = Service.objects.exclude(pk=service.pk) if service else Service.objects.all()
    if others.filter(name__iexact=name).exists():
        raise NotPossible(f"There is a service named {name} already.")
    action = "service.changed" if service else "service.added"
    with atomic():
        service = service or Service()
        service.name, service.duration_minutes, service.price_cents = name, duration_minutes, price_cents
        service.resource, service.is_active = resource.strip() or "main", is_active
        service.save()
        audit.record(action=action, target=name, actor=actor)
    return service


def mark_handled(*, left: Message | HandOff, actor: User) -> None:
    """Take a message or a hand-off off the list of what is to be done."""
    if left.handled_at is not None:
        return
    with atomic():
        left.handled_at = timezone.now()
        left.save(update_fields=["handled_at"])
        kind = "message" if isinstance(left, Message) else "hand_off"
        audit.record(action=f"{kind}.handled", target=left.contact or "", actor=actor)
