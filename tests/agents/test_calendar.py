"""What people of a business do to its calendar by hand: it holds at once, and is audited."""

from __future__ import annotations

import datetime

import pytest
from django.utils import timezone

from agents import calendar
from agents.calendar import NotPossible
from agents.models import Agent, Appointment, Closure, Message, OpeningHours, Service
from agents.scheduling import NotBookable
from agents.tools import run_tool
from tenants.models import AuditEntry, Tenant, User
from tests.agents.factories import make_context

NINE, NOON, FIVE = datetime.time(9), datetime.time(12), datetime.time(17)


def actions() -> list[str]:
    entries = AuditEntry.objects.exclude(action="tenant.opened").order_by("occurred_at")
    return list(entries.values_list("action", flat=True))


def next_monday_at(clock: str) -> datetime.datetime:
    today = timezone.now().date()
    day = today + datetime.timedelta(days=7 - today.weekday())
    return datetime.datetime.combine(day, datetime.time.fromisoformat(clock), datetime.UTC)


def book(service: Service, actor: User, clock: str = "10:00", name: str = "Anna") -> Appointment:
    return calendar.book_by_hand(
        service=service, starts_at=next_monday_at(clock), name=name, phone="4155550100", actor=actor
    )


def test_an_appointment_is_booked_moved_and_cancelled_by_hand(haircut: Service, alice: User) -> None:
    made = book(haircut, alice)
    calendar.move_by_hand(appointment=made, starts_at=next_monday_at("15:00"), actor=alice)
    calendar.cancel_by_hand(appointment=made, actor=alice)
    calendar.cancel_by_hand(appointment=made, actor=alice)
    made.refresh_from_db()
    assert (made.status, made.starts_at, made.call_id) == ("cancelled", next_monday_at("15:00"), None)
    assert actions() == ["appointment.booked", "appointment.moved", "appointment.cancelled"]


def test_a_refused_booking_leaves_no_trace(haircut: Service, alice: User) -> None:
    book(haircut, alice)
    with pytest.raises(NotBookable, match="already taken"):
        book(haircut, alice, name="Tom")
    assert Appointment.objects.get().contact.name == "Anna"
    assert actions() == ["appointment.booked"]


def test_opening_hours_are_replaced_as_a_whole(haircut: Service, alice: User) -> None:
    calendar.set_opening_hours(hours={0: [(NOON, FIVE), (NINE, NOON)], 1: []}, actor=alice)
    assert [str(each) for each in OpeningHours.objects.all()] == ["Monday 09:00 to 12:00", "Monday 12:00 to 17:00"]


@pytest.mark.parametrize(
    ("stretches", "sentence"),
    [
        ([(FIVE, NINE)], "Monday: it cannot close before it opens."),
        ([(NINE, NINE)], "cannot close before it opens"),
        ([(NINE, FIVE), (NOON, FIVE)], "Monday: two stretches overlap."),
    ],
)
def test_hours_that_cannot_be_are_refused_and_the_old_ones_stay(
    haircut: Service, alice: User, stretches: list[calendar.Stretch], sentence: str
) -> None:
    with pytest.raises(NotPossible, match=sentence):
        calendar.set_opening_hours(hours={0: stretches}, actor=alice)
    assert OpeningHours.objects.count() == 5


def test_days_are_closed_and_opened_again(haircut: Service, alice: User) -> None:
    day = next_monday_at("10:00").date()
    closure = calendar.close_days(first=day, last=day, reason=" Fair ", actor=alice)
    assert closure.reason == "Fair"
    with pytest.raises(NotBookable, match="not open"):
        book(haircut, alice)
    calendar.reopen_days(closure=closure, actor=alice)
    book(haircut, alice)
    with pytest.raises(NotPossible, match="The last day is before the first."):
        calendar.close_days(first=day, last=day - datetime.timedelta(days=1), actor=alice)
    assert not Closure.objects.exists()


def test_a_service_is_added_and_changed_and_its_name_is_its_own(inside: Tenant, alice: User) -> None:
    fields = {"duration_minutes": 30, "price_cents": None, "resource": " ", "is_active": True, "actor": alice}
    made = calendar.save_service(service=None, name=" Shave ", **fields)
    assert (made.name, made.resource) == ("Shave", "main")
    calendar.save_service(service=made, name="shave", **fields)
    with pytest.raises(NotPossible, match="There is a service named SHAVE already."):
        calendar.save_service(service=None, name="SHAVE", **fields)
    assert actions() == ["service.added", "service.changed"]


def test_a_message_is_taken_off_the_list_once(inside: Tenant, alice: User, agent: Agent) -> None:
    run_tool("take_message", {"message": "Please call me"}, make_context(agent))
    left = Message.objects.get()
    calendar.mark_handled(left=left, actor=alice)
    calendar.mark_handled(left=left, actor=alice)
    assert not Message.objects.open().exists()
    assert actions() == ["message.handled"]
