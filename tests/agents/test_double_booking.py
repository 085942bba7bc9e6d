"""However many callers want the same time at the same moment, one gets it, and the others hear of it in a sentence."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connections, transaction

from agents import scheduling
from agents.contacts import keep_contact
from agents.models import Appointment, Contact, Service
from agents.tools import ToolResult, run_tool
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.agents.factories import MONDAY, create_agent, create_service, make_context, open_on

CALLERS = 6
NOON = datetime.datetime(2026, 3, 3, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def salon(acme: Tenant) -> Tenant:
    """Acme with a calendar; every row of it is committed."""
    with enter_tenant(acme.pk):
        open_on(0, 1, 2, 3, 4)
        create_agent()
        create_service(name="cut")
        create_service(name="shave", duration_minutes=30)
    return acme


def all_at_once(work: Callable[[int], ToolResult]) -> list[ToolResult]:
    """Do something in several threads, each on a connection of its own, starting at the same moment."""
    barrier = threading.Barrier(CALLERS, timeout=20)
    results: list[ToolResult] = []
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            results.append(work(number))
        except BaseException as failure:
            failures.append(failure)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []
    return results


def call(tenant: Tenant, tool: str, number: int, **arguments: str) -> ToolResult:
    with enter_tenant(tenant.pk):
        from agents.models import Agent

        context = make_context(Agent.objects.get())
        return run_tool(tool, {"phone": f"415555010{number}", **arguments}, context)


def test_one_of_many_callers_gets_the_time(salon: Tenant) -> None:
    services = ["cut", "shave"]
    results = all_at_once(
        lambda number: call(
            salon,
            "book_appointment",
            number,
            service=services[number % 2],
            starts_at="2026-03-03T12:00",
            name=f"Caller {number}",
        )
    )
    refused = [result for result in results if not result.ok]
    assert len(refused) == CALLERS - 1
    assert {(result.error_code, result.error_slot) for result in refused} == {("slot_taken", "starts_at")}
    assert all(len(result.result["alternatives"]) == 3 and result.error_sentence for result in refused)
    with enter_tenant(salon.pk):
        assert Appointment.objects.count() == 1


def test_one_of_many_moves_gets_the_time(salon: Tenant) -> None:
    with enter_tenant(salon.pk):
        for number in range(CALLERS):
            scheduling.book(
                service=Service.objects.get(name="cut"),
                contact=keep_contact(name="x", phone=f"415555010{number}"),
                starts_at=NOON + datetime.timedelta(days=1, hours=number - 3),
                now=MONDAY,
            )
    results = all_at_once(lambda number: call(salon, "reschedule_appointment", number, starts_at="2026-03-03T12:00"))
    assert sorted(result.ok for result in results) == [False] * (CALLERS - 1) + [True]
    with enter_tenant(salon.pk):
        assert Appointment.objects.filter(starts_at=NOON).count() == 1
        assert Appointment.objects.booked().count() == CALLERS


def test_callers_who_want_different_times_all_get_theirs(salon: Tenant) -> None:
    results = all_at_once(
        lambda number: call(
            salon, "book_appointment", number, service="cut", starts_at=f"2026-03-03T{10 + number}:00", name="Anna"
        )
    )
    assert all(result.ok for result in results)


def test_one_caller_on_many_lines_is_one_contact(salon: Tenant) -> None:
    results = all_at_once(lambda number: call(salon, "save_contact", 0, name="Anna", notes=f"note {number}"))
    assert all(result.ok for result in results)
    with enter_tenant(salon.pk):
        assert sorted(Contact.objects.get().notes.split("\n")) == [f"note {number}" for number in range(CALLERS)]


def test_the_database_itself_refuses_what_the_code_forgot(salon: Tenant) -> None:
    with enter_tenant(salon.pk):
        service, contact = Service.objects.get(name="cut"), keep_contact(name="Anna", phone="4155550100")
        times = {"starts_at": NOON, "ends_at": NOON + datetime.timedelta(minutes=45)}
        Appointment.objects.create(service=service, contact=contact, **times)
        with pytest.raises(IntegrityError, match="no_double_booking"), transaction.atomic():
            Appointment.objects.create(service=service, contact=contact, **times)
        Appointment.objects.create(service=service, contact=contact, resource="second chair", **times)


def test_what_the_database_refuses_is_told_as_taken(salon: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that another program put there between the check and the insertion."""
    with enter_tenant(salon.pk):
        service, contact = Service.objects.get(name="cut"), keep_contact(name="Anna", phone="4155550100")
        scheduling.book(service=service, contact=contact, starts_at=NOON, now=MONDAY)
        monkeypatch.setattr(scheduling, "check_bookable", lambda *args, **kwargs: None)
        with pytest.raises(scheduling.NotBookable, match="taken just now") as caught:
            scheduling.book(service=service, contact=contact, starts_at=NOON, now=MONDAY)
        assert caught.value.code == "slot_taken" and len(caught.value.alternatives) == 3
        assert Appointment.objects.count() == 1
