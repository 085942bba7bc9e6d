"""Free times, opening hours and closures, in the business's own time and over its changes of the clock."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from agents import scheduling
from agents.contacts import keep_contact
from agents.models import Appointment, Closure, Service
from agents.scheduling import NotBookable
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests import factories as people
from tests.agents.factories import MONDAY, create_service, open_on

UTC = datetime.UTC
NEW_YORK = ZoneInfo("America/New_York")


def book(service: Service, starts_at: datetime.datetime, *, now: datetime.datetime = MONDAY) -> Appointment:
    return scheduling.book(
        service=service, contact=keep_contact(name="Anna", phone="4155550100"), starts_at=starts_at, now=now
    )


def refused(service: Service, starts_at: datetime.datetime, *, now: datetime.datetime = MONDAY) -> NotBookable:
    with pytest.raises(NotBookable) as caught:
        book(service, starts_at, now=now)
    assert caught.value.sentence.endswith(".")
    return caught.value


def walls(times: list[datetime.datetime]) -> list[str]:
    return [at.strftime("%a %H:%M") for at in times]


def on(day: int, clock: str, month: int = 3) -> datetime.datetime:
    return datetime.datetime.combine(datetime.date(2026, month, day), datetime.time.fromisoformat(clock), UTC)


def free_on(service: Service, day: datetime.date, *, zone: datetime.tzinfo = UTC) -> list[str]:
    first = datetime.datetime.combine(day, datetime.time(), zone)
    found = scheduling.free_times(
        service, first=first, last=first + datetime.timedelta(hours=23, minutes=59), now=first - datetime.timedelta(1)
    )
    return [at.strftime("%H:%M") for at in found]


def test_a_free_time_is_booked_for_as_long_as_the_service_takes(haircut: Service) -> None:
    made = book(haircut, on(3, "10:00"))
    assert (made.starts_at, made.ends_at, made.resource, made.who) == (on(3, "10:00"), on(3, "10:45"), "main", "Anna")


def test_a_time_that_has_passed_is_refused_with_the_next_free_ones(haircut: Service) -> None:
    refusal = refused(haircut, MONDAY - datetime.timedelta(minutes=1))
    assert refusal.code == "in_the_past"
    assert walls(refusal.alternatives)[0] == "Mon 09:15"


def test_a_time_more_than_a_year_ahead_is_refused(haircut: Service) -> None:
    assert refused(haircut, MONDAY + datetime.timedelta(days=366)).code == "too_far_ahead"


@pytest.mark.parametrize("at", ["08:59", "16:16", "17:00", "23:30", "00:00"])
def test_outside_opening_hours_is_refused_with_alternatives_of_that_day(haircut: Service, at: str) -> None:
    refusal = refused(haircut, on(4, at))
    assert refusal.code == "closed"
    assert refusal.alternatives == sorted(refusal.alternatives) and len(refusal.alternatives) == 3
    assert all(scheduling.check_bookable(haircut, each, now=MONDAY) is None for each in refusal.alternatives)


def test_the_last_time_of_a_day_is_the_one_that_ends_when_it_closes(haircut: Service) -> None:
    assert book(haircut, on(4, "16:15")).ends_at == on(4, "17:00")
    assert free_on(haircut, datetime.date(2026, 3, 5))[-1] == "16:15"


def test_a_weekday_without_hours_is_closed_and_the_next_open_day_is_offered(haircut: Service) -> None:
    refusal = refused(haircut, on(7, "10:00"))
    assert refusal.code == "closed"
    assert walls(refusal.alternatives) == ["Mon 09:00", "Mon 10:00", "Mon 11:00"]


def test_a_service_does_not_reach_over_a_lunch_break(inside: Tenant) -> None:
    open_on(0, opens="09:00", closes="12:00")
    open_on(0, opens="13:00", closes="17:00")
    service = create_service(duration_minutes=60)
    assert refused(service, on(9, "11:30")).code == "closed"
    assert free_on(service, datetime.date(2026, 3, 9))[:10] == [
        "09:00",
        "09:15",
        "09:30",
        "09:45",
        "10:00",
        "10:15",
        "10:30",
        "10:45",
        "11:00",
        "13:00",
    ]


def test_closed_days_are_refused_and_not_offered(haircut: Service) -> None:
    Closure.objects.create(first_date=datetime.date(2026, 3, 3), last_date=datetime.date(2026, 3, 4), reason="Fair")
    refusal = refused(haircut, on(3, "10:00"))
    assert refusal.code == "closed"
    assert walls(refusal.alternatives) == ["Thu 09:00", "Thu 10:00", "Thu 11:00"]


@pytest.mark.parametrize("at", ["10:00", "09:30", "10:30"])
def test_a_taken_time_is_refused_with_the_nearest_free_ones(haircut: Service, at: str) -> None:
    book(haircut, on(3, "10:00"))
    refusal = refused(haircut, on(3, at))
    assert refusal.code == "slot_taken"
    assert (
        walls(refusal.alternatives)
        == {
            "10:00": ["Tue 09:00", "Tue 09:15", "Tue 10:45"],
            "09:30": ["Tue 09:00", "Tue 09:15", "Tue 10:45"],
            "10:30": ["Tue 10:45", "Tue 11:00", "Tue 11:15"],
        }[at]
    )


def test_an_appointment_right_after_another_is_no_conflict(haircut: Service) -> None:
    book(haircut, on(3, "10:00"))
    book(haircut, on(3, "10:45"))
    book(haircut, on(3, "09:15"))


def test_services_on_one_resource_exclude_each_other_and_others_do_not(haircut: Service) -> None:
    colour = create_service(name="colour", duration_minutes=120)
    massage = create_service(name="massage", resource="massage room")
    book(haircut, on(3, "10:00"))
    assert refused(colour, on(3, "09:00")).code == "slot_taken"
    book(massage, on(3, "10:00"))


def test_a_cancelled_appointment_frees_its_time(haircut: Service) -> None:
    book(haircut, on(3, "10:00")).cancel()
    book(haircut, on(3, "10:00"))


def test_nothing_is_offered_where_nothing_is_open(inside: Tenant) -> None:
    refusal = refused(create_service(), on(3, "10:00"))
    assert (refusal.code, refusal.alternatives) == ("closed", [])


def test_an_appointment_may_move_within_its_own_time(haircut: Service) -> None:
    made = book(haircut, on(3, "10:00"))
    scheduling.move(made, starts_at=on(3, "10:15"), now=MONDAY)
    made.refresh_from_db()
    assert (made.starts_at, made.ends_at) == (on(3, "10:15"), on(3, "11:00"))


def test_a_move_onto_another_is_refused_and_leaves_it_where_it_was(haircut: Service) -> None:
    made = book(haircut, on(3, "10:00"))
    book(haircut, on(3, "12:00"))
    with pytest.raises(NotBookable, match="already taken"):
        scheduling.move(made, starts_at=on(3, "12:15"), now=MONDAY)
    made.refresh_from_db()
    assert made.starts_at == on(3, "10:00")


def test_each_business_has_its_own_calendar(haircut: Service, rival: Tenant) -> None:
    book(haircut, on(3, "10:00"))
    with enter_tenant(rival.pk):
        open_on(1)
        book(create_service(), on(3, "10:00"))
        assert Appointment.objects.count() == 1


# --- the clock changes: in New York on 8 March 2026 it skips 2:00 to 3:00, on 1 November 1:00 to 2:00 comes twice -----
@pytest.fixture
def night_shift() -> Service:
    """A service of an hour in New York, open on Sundays from midnight to six."""
    tenant = people.create_tenant(name="Night", time_zone="America/New_York")
    with enter_tenant(tenant.pk):
        open_on(6, opens="00:00", closes="06:00")
        yield create_service(name="night shift", duration_minutes=60)


def test_the_day_on_which_an_hour_is_skipped_has_five(night_shift: Service) -> None:
    times = free_on(night_shift, datetime.date(2026, 3, 8), zone=NEW_YORK)
    assert times == [
        "00:00",
        "00:15",
        "00:30",
        "00:45",
        "01:00",
        "01:15",
        "01:30",
        "01:45",
        "03:00",
        "03:15",
        "03:30",
        "03:45",
        "04:00",
        "04:15",
        "04:30",
        "04:45",
        "05:00",
    ]


def test_the_day_on_which_an_hour_comes_twice_has_seven(night_shift: Service) -> None:
    times = free_on(night_shift, datetime.date(2026, 11, 1), zone=NEW_YORK)
    assert times.count("01:30") == 2
    assert len(times) == 25


def test_an_appointment_lasts_its_time_over_the_skipped_hour(night_shift: Service) -> None:
    made = book(night_shift, datetime.datetime(2026, 3, 8, 1, 30, tzinfo=NEW_YORK))
    assert made.ends_at - made.starts_at == datetime.timedelta(hours=1)
    assert made.ends_at.astimezone(NEW_YORK).strftime("%H:%M") == "03:30"


def test_an_appointment_lasts_its_time_over_the_hour_that_comes_twice(night_shift: Service) -> None:
    made = book(night_shift, datetime.datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK))
    assert made.ends_at - made.starts_at == datetime.timedelta(hours=1)
    assert made.ends_at.astimezone(NEW_YORK).strftime("%H:%M") == "01:30"
    again = datetime.datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=1)
    assert book(night_shift, again).starts_at == made.ends_at


def test_a_time_in_the_skipped_hour_is_read_as_the_hour_after() -> None:
    read = scheduling.local_time(datetime.datetime(2026, 3, 8, 2, 30), NEW_YORK)
    assert read.isoformat() == "2026-03-08T03:30:00-04:00"


def test_a_time_that_comes_twice_is_read_as_the_first() -> None:
    read = scheduling.local_time(datetime.datetime(2026, 11, 1, 1, 30), NEW_YORK)
    assert read.isoformat() == "2026-11-01T01:30:00-04:00"


def test_nine_in_the_morning_stays_nine_over_the_change() -> None:
    tenant = people.create_tenant(name="Day", time_zone="America/New_York")
    with enter_tenant(tenant.pk):
        open_on(4, 0)
        service = create_service()
        friday, monday = datetime.date(2026, 3, 6), datetime.date(2026, 3, 9)
        assert free_on(service, friday, zone=NEW_YORK)[0] == free_on(service, monday, zone=NEW_YORK)[0] == "09:00"
        before = book(service, datetime.datetime(2026, 3, 6, 9, tzinfo=NEW_YORK))
        after = book(service, datetime.datetime(2026, 3, 9, 9, tzinfo=NEW_YORK))
        assert (before.starts_at.astimezone(UTC).hour, after.starts_at.astimezone(UTC).hour) == (14, 13)
