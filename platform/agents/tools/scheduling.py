"""Tools on the calendar. Times go in and out as the business's own wall clock: 2026-11-24T15:30."""

from __future__ import annotations

import datetime
import re
from typing import Any

from agents import scheduling
from agents.contacts import keep_contact
from agents.models import Appointment, Service
from agents.models.contacts import normalise_phone
from agents.tools.contract import ToolContext, ToolRefused

OFFERED = 6
"""How many services are named to a caller who asked for another."""


def check_availability(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    service = _service(arguments["service"])
    wish = _time(arguments["starts_at"]) if "starts_at" in arguments else None
    if wish is None:
        first = scheduling.free_times(service, first=context.now, last=context.now + scheduling.SEARCH, now=context.now)
        times = [at for at, _ in zip(first, range(3), strict=False)]
        return {"service": service.name, "free": False, "alternatives": _walls(times)}
    try:
        scheduling.check_bookable(service, wish, now=context.now)
    except scheduling.NotBookable as refusal:
        return {
            "service": service.name,
            "free": False,
            "why": refusal.sentence,
            "alternatives": _walls(refusal.alternatives),
        }
    return {"service": service.name, "free": True, "starts_at": _wall(wish), "alternatives": []}


def book_appointment(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    service = _service(arguments["service"])
    starts_at = _time(arguments["starts_at"])
    contact = keep_contact(
        name=arguments["name"],
        phone=arguments["phone"],
        email=arguments.get("email", ""),
    )
    try:
        appointment = scheduling.book(
            service=service,
            contact=contact,
            starts_at=starts_at,
            now=context.now,
            call_id=context.call_id,
            notes=arguments.get("notes", ""),
        )
    except scheduling.NotBookable as refusal:
        raise _refused(refusal) from refusal
    return _described(appointment)


def find_appointments(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    found = list(_upcoming(arguments["phone"], context)[:5])
    if not found:
        raise _none_found()
    return {"appointments": [_described(each) for each in found], **_described(found[0])}


def reschedule_appointment(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    appointment = _next(arguments["phone"], context)
    before = appointment.starts_at
    try:
        scheduling.move(appointment, starts_at=_time(arguments["starts_at"]), now=context.now)
    except scheduling.NotBookable as refusal:
        raise _refused(refusal) from refusal
    return {**_described(appointment), "before": _wall(before)}


def cancel_appointment(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    appointment = _next(arguments["phone"], context)
    appointment.cancel()
    return _described(appointment)


def _service(name: str) -> Service:
    """Return the service that a caller means: the one named, the longest one that is part of what was said, or the only
    one that the words said are part of."""
    services = list(Service.objects.filter(is_active=True))
    if not services:
        raise ToolRefused("nothing_to_book", "Nothing can be booked with us at the moment.")
    wanted = " ".join(name.casefold().split())
    said = [service for service in services if _is_within(service.name, wanted)]
    if said:
        return max(said, key=lambda service: len(service.name))
    meant = [service for service in services if wanted and _is_within(wanted, service.name)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ToolRefused("unclear_service", f"Do you mean {_either(meant)}?", slot="service")
    raise ToolRefused(
        "unknown_service", f"We don't offer that. You can choose {_either(services[:OFFERED])}.", slot="service"
    )


def _is_within(words: str, sentence: str) -> bool:
    """Return whether whole words stand within a sentence, as said or in the plural."""
    pattern = rf"(?<!\w){re.escape(' '.join(words.casefold().split()))}(?:s|es)?(?!\w)"
    return re.search(pattern, " ".join(sentence.casefold().split())) is not None


def _either(services: list[Service]) -> str:
    *first, last = [service.name for service in services]
    return f"{', '.join(first)} or {last}" if first else last


def _time(wall: str) -> datetime.datetime:
    try:
        return scheduling.local_time(datetime.datetime.fromisoformat(wall), scheduling.time_zone())
    except ValueError as problem:
        raise ToolRefused("invalid", "I did not get the date and time right.", slot="starts_at") from problem


def _upcoming(phone: str, context: ToolContext) -> Any:
    return (
        Appointment.objects.booked()
        .filter(starts_at__gt=context.now)
        .of_phone(normalise_phone(phone))
        .select_related("service", "contact")
        .order_by("starts_at")
    )


def _next(phone: str, context: ToolContext) -> Appointment:
    appointment = _upcoming(phone, context).select_for_update(of=("self",)).first()
    if appointment is None:
        raise _none_found()
    return appointment


def _none_found() -> ToolRefused:
    return ToolRefused("not_found", "I can't find an appointment under that number.", slot="phone")


def _refused(refusal: scheduling.NotBookable) -> ToolRefused:
    return ToolRefused(
        refusal.code, refusal.sentence, slot="starts_at", result={"alternatives": _walls(refusal.alternatives)}
    )


def _described(appointment: Appointment) -> dict[str, Any]:
    return {
        "appointment_id": str(appointment.pk),
        "service": appointment.service.name,
        "starts_at": _wall(appointment.starts_at),
        "name": appointment.who,
    }


def _wall(at: datetime.datetime) -> str:
    return at.astimezone(scheduling.time_zone()).strftime("%Y-%m-%dT%H:%M")


def _walls(times: list[datetime.datetime]) -> list[str]:
    return [_wall(at) for at in times]
