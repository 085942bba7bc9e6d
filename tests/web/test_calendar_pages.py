"""The calendar's pages: booking by hand, hours, closed days, services, contacts, and what callers left."""

from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from agents import scheduling
from agents.contacts import keep_contact
from agents.models import Appointment, Closure, Contact, HandOff, Message, OpeningHours, Service
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.web import factories
from tests.web.pages import words

PERSON = {"name": "Dora Miller", "phone": "+1 415 555 0123"}


@pytest.fixture
def desk(acme: Tenant) -> Tenant:
    """Acme with the services and opening hours of a salon."""
    with enter_tenant(acme.id):
        factories.create_agent()
    return acme


def haircut(tenant: Tenant) -> Service:
    with enter_tenant(tenant.id):
        return Service.objects.get(name="haircut")


def free_time(tenant: Tenant, number: int = 0) -> datetime.datetime:
    """Return a free time of the coming days for a haircut."""
    now = timezone.now()
    with enter_tenant(tenant.id):
        service = Service.objects.get(name="haircut")
        free = scheduling.free_times(service, first=now, last=now + datetime.timedelta(days=6), now=now)
        return list(free)[number]


def typed(tenant: Tenant, at: datetime.datetime) -> str:
    """Return a time as it is typed: the business's own."""
    return at.astimezone(ZoneInfo(tenant.time_zone)).strftime("%Y-%m-%dT%H:%M")


def book(client: Client, tenant: Tenant, at: datetime.datetime, **fields: str) -> Any:
    body = {"service": haircut(tenant).pk, "starts_at": typed(tenant, at), **PERSON, **fields}
    return client.post("/t/acme/calendar/appointments/new/", body)


def test_a_booking_stands_in_its_week(client_of: Any, desk: Tenant, alice: User) -> None:
    client, at = client_of(alice), free_time(desk)
    answer = book(client, desk, at)
    assert answer.status_code == 302
    page = words(client.get(answer["Location"]).content.decode())
    assert "Dora Miller" in page and "haircut" in page and typed(desk, at)[-5:] in page
    with enter_tenant(desk.id):
        (appointment,) = Appointment.objects.all()
        assert appointment.starts_at == at and appointment.contact.phone == "+14155550123"


def test_a_time_that_is_taken_is_refused_with_others_and_what_was_typed_stays(
    client_of: Any, desk: Tenant, alice: User
) -> None:
    client, at = client_of(alice), free_time(desk)
    book(client, desk, at)
    answer = book(client, desk, at, name="Ben Okafor", notes="Beard, too.")
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "Ben Okafor" in page and "Beard, too." in page and typed(desk, at) in page
    assert "alternative" in page.lower() or "free" in words(page).lower()
    with enter_tenant(desk.id):
        assert Appointment.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"starts_at": "soon"}, "Write a date and a time."),
        ({"starts_at": "2020-01-06T10:00"}, "already passed"),
        ({"phone": "call me"}, "Write it in digits"),
        ({"name": ""}, "This field is required."),
        ({"email": "dora@"}, "Enter a valid e"),
        ({"service": "7b9bcb0f-6c7c-4a55-b2df-0f6f1b0c8f0a"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_booked_is_told_in_a_sentence(
    change: dict[str, str], sentence: str, client_of: Any, desk: Tenant, alice: User
) -> None:
    answer = book(client_of(alice), desk, free_time(desk), **change)
    assert answer.status_code == 422
    assert sentence in words(answer.content.decode())
    with enter_tenant(desk.id):
        assert not Appointment.objects.exists()


def test_an_appointment_is_moved_and_cancelled(client_of: Any, desk: Tenant, alice: User) -> None:
    client = client_of(alice)
    book(client, desk, free_time(desk))
    with enter_tenant(desk.id):
        appointment = Appointment.objects.get()
    address, later = f"/t/acme/calendar/appointments/{appointment.pk}/", free_time(desk, 8)
    assert "Dora Miller" in client.get(address).content.decode()
    moved = client.post(f"{address}move/", {"starts_at": typed(desk, later)}, follow=True).content.decode()
    assert "Dora Miller now comes on" in words(moved)
    with enter_tenant(desk.id):
        appointment.refresh_from_db()
        assert appointment.starts_at == later
    refused = client.post(f"{address}move/", {"starts_at": "2020-01-06T10:00"})
    assert refused.status_code == 422 and "already passed" in words(refused.content.decode())
    cancelled = client.post(f"{address}cancel/", follow=True).content.decode()
    assert "is cancelled" in words(cancelled)
    with enter_tenant(desk.id):
        appointment.refresh_from_db()
        assert appointment.status == Appointment.Status.CANCELLED
    assert book(client, desk, later).status_code == 302


def test_opening_hours_are_changed_and_bad_ones_are_told(client_of: Any, desk: Tenant, alice: User) -> None:
    client = client_of(alice)
    days = {f"day_{weekday}": "" for weekday in range(7)}
    saved = client.post(
        "/t/acme/calendar/hours/change/", {**days, "day_0": "09:00-12:30, 14:00-18:00", "day_5": "10.00 to 14.00"}
    )
    assert saved.status_code == 302
    with enter_tenant(desk.id):
        kept = [
            (each.weekday, f"{each.opens_at:%H:%M}", f"{each.closes_at:%H:%M}") for each in OpeningHours.objects.all()
        ]
    assert kept == [(0, "09:00", "12:30"), (0, "14:00", "18:00"), (5, "10:00", "14:00")]
    for line in ("nine to five", "18:00-09:00", "09:00-25:00", "09:00-12:00, 11:00-13:00"):
        answer = client.post("/t/acme/calendar/hours/change/", {**days, "day_0": line})
        assert answer.status_code == 422, line
        assert line in answer.content.decode()
    with enter_tenant(desk.id):
        assert OpeningHours.objects.count() == 3


def test_closed_days_are_added_and_removed(client_of: Any, desk: Tenant, alice: User) -> None:
    client, day = client_of(alice), timezone.localdate() + datetime.timedelta(days=30)
    body = {"first": day.isoformat(), "last": "", "reason": "Stocktaking"}
    page = client.post("/t/acme/calendar/closures/new/", body, follow=True).content.decode()
    assert "Closed on those days." in page and "Stocktaking" in page
    bad = client.post(
        "/t/acme/calendar/closures/new/", {**body, "last": (day - datetime.timedelta(days=1)).isoformat()}
    )
    assert bad.status_code == 422 and "Stocktaking" in bad.content.decode()
    with enter_tenant(desk.id):
        closure = Closure.objects.get()
    client.post(f"/t/acme/calendar/closures/{closure.pk}/remove/")
    with enter_tenant(desk.id):
        assert not Closure.objects.exists()


def test_a_service_is_made_changed_and_taken_off(client_of: Any, desk: Tenant, alice: User) -> None:
    client = client_of(alice)
    body = {"name": "Perm", "duration_minutes": "90", "price": "120.50", "resource": "chair", "is_active": "on"}
    assert client.post("/t/acme/calendar/services/new/", body).status_code == 302
    with enter_tenant(desk.id):
        perm = Service.objects.get(name="Perm")
        assert (perm.duration_minutes, perm.price_cents) == (90, 12_050)
    for change, sentence in (
        ({"name": "haircut"}, "already"),
        ({"duration_minutes": "2"}, "greater than or equal to 5"),
        ({"price": "-1"}, "greater than or equal to 0"),
    ):
        answer = client.post("/t/acme/calendar/services/new/", {**body, "name": "Other", **change})
        assert answer.status_code == 422 and sentence in words(answer.content.decode()), change
    address = f"/t/acme/calendar/services/{perm.pk}/"
    assert "120.5" in client.get(address).content.decode()
    client.post(address, {key: value for key, value in body.items() if key != "is_active"})
    with enter_tenant(desk.id):
        perm.refresh_from_db()
        assert not perm.is_active


def test_contacts_are_found_by_name_number_and_address(client_of: Any, desk: Tenant, bob: User) -> None:
    with enter_tenant(desk.id):
        keep_contact(name="Anna Smith", phone="415 555 0101", email="anna@smith.example")
        keep_contact(name="Ben Okafor", phone="415 555 0202")
    client = client_of(bob)
    for wanted, expected in (("anna", "Anna"), ("0202", "Ben"), ("smith.example", "Anna")):
        page = words(client.get("/t/acme/calendar/contacts/", {"q": wanted}).content.decode())
        assert expected in page and ({"Anna", "Ben"} - {expected}).pop() not in page, wanted
    assert "Anna" not in words(client.get("/t/acme/calendar/contacts/", {"q": "zzz"}).content.decode())


def test_what_callers_left_waits_until_somebody_has_seen_to_it(client_of: Any, desk: Tenant, alice: User) -> None:
    client = client_of(alice)
    with enter_tenant(desk.id):
        contact = keep_contact(name="Anna Smith", phone="415 555 0101")
        message = Message.objects.create(contact=contact, text="Please call me back about Friday.")
        HandOff.objects.create(contact=contact, reason="The agent could not understand the caller.")
    page = words(client.get("/t/acme/calendar/messages/").content.decode())
    assert "Please call me back about Friday." in page and "could not understand" in page
    client.post(f"/t/acme/calendar/messages/message/{message.pk}/done/")
    with enter_tenant(desk.id):
        message.refresh_from_db()
        assert message.handled_at is not None
        assert HandOff.objects.open().count() == 1


def test_a_viewer_sees_the_calendar_and_no_buttons_to_change_it(client_of: Any, desk: Tenant, bob: User) -> None:
    client = client_of(bob)
    assert "appointments/new" not in client.get("/t/acme/calendar/").content.decode()
    assert "Save the hours" not in client.get("/t/acme/calendar/hours/").content.decode()


def test_any_week_can_be_looked_at_and_nonsense_is_this_week(client_of: Any, desk: Tenant, bob: User) -> None:
    client = client_of(bob)
    assert "January 2031" in words(client.get("/t/acme/calendar/?day=2031-01-08").content.decode())
    for day in ("", "never", "2031-02-31", "9999-12-31", "0001-01-01"):
        assert client.get("/t/acme/calendar/", {"day": day}).status_code == 200, day


def test_a_business_without_services_is_told_what_to_do(client_of: Any, acme: Tenant, alice: User) -> None:
    assert client_of(alice).get("/t/acme/calendar/").status_code == 200
    with enter_tenant(acme.id):
        assert not Service.objects.exists() and not Contact.objects.exists()
