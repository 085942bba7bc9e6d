"""What agents' tools do, and what they say when they cannot."""

from __future__ import annotations

import datetime
from typing import Any

import jsonschema
import pytest

from agents.models import Appointment, Contact, Service
from agents.tools import TOOLS, ToolContext, ToolResult, run_tool
from agents.tools.declarations import DECLARATIONS, declaration_of
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests import factories as people
from tests.agents.factories import MONDAY, create_agent, create_service, make_context, open_on

ANNA = {"name": "Anna Smith", "phone": "415 555 0100"}
AT_TEN = "2026-03-03T10:00"


def book(context: ToolContext, **arguments: Any) -> ToolResult:
    return run_tool("book_appointment", {"service": "haircut", "starts_at": AT_TEN, **ANNA, **arguments}, context)


def test_every_tool_is_declared_and_every_declaration_has_its_tool() -> None:
    assert set(TOOLS) == set(DECLARATIONS)


@pytest.mark.parametrize("name", DECLARATIONS)
def test_a_declaration_is_a_json_schema_that_takes_nothing_unknown(name: str) -> None:
    declared = declaration_of(name)
    jsonschema.Draft202012Validator.check_schema(declared["parameters"])
    assert declared["parameters"]["additionalProperties"] is False
    assert set(declared["parameters"]["required"]) <= set(declared["parameters"]["properties"])


# --- booking ----------------------------------------------------------------------------------------------------------
def test_a_booking_is_a_row_on_the_calendar_with_its_call(haircut: Service, context: ToolContext) -> None:
    result = book(context, email="anna@example.com", notes="By the window")
    made = Appointment.objects.get()
    assert result == ToolResult(
        ok=True,
        result={
            "appointment_id": str(made.pk),
            "service": "haircut",
            "starts_at": AT_TEN,
            "name": "Anna Smith",
        },
    )
    assert (made.call_id, made.notes) == (context.call_id, "By the window")
    assert (made.contact.phone, made.contact.email) == ("+14155550100", "anna@example.com")


def test_times_are_the_business_own() -> None:
    tenant = people.create_tenant(name="Paris", time_zone="Europe/Paris")
    with enter_tenant(tenant.pk):
        open_on(1)
        create_service()
        context = make_context(create_agent())
        assert book(context).result["starts_at"] == AT_TEN
        assert Appointment.objects.get().starts_at == datetime.datetime(2026, 3, 3, 9, 0, tzinfo=datetime.UTC)
        found = run_tool("find_appointments", {"phone": ANNA["phone"]}, context)
        assert found.result["starts_at"] == AT_TEN


def test_two_people_of_one_number_keep_their_names(haircut: Service, context: ToolContext) -> None:
    book(context)
    book(context, name="Tom Smith", starts_at="2026-03-03T11:00")
    assert [each.who for each in Appointment.objects.all()] == ["Anna Smith", "Tom Smith"]
    assert Contact.objects.count() == 1


@pytest.mark.parametrize(
    ("starts_at", "code"),
    [
        ("2026-03-02T08:00", "in_the_past"),
        ("2026-03-03T20:00", "closed"),
        ("2026-03-08T10:00", "closed"),
        ("2028-03-03T10:00", "too_far_ahead"),
    ],
)
def test_a_time_that_cannot_be_is_told_with_others_and_asked_for_again(
    haircut: Service, context: ToolContext, starts_at: str, code: str
) -> None:
    result = book(context, starts_at=starts_at)
    assert (result.ok, result.error_code, result.error_slot) == (False, code, "starts_at")
    assert result.error_sentence.endswith(".")
    assert len(result.result["alternatives"]) == (0 if code == "too_far_ahead" else 3)
    for wall in result.result["alternatives"]:
        assert book(context, starts_at=wall).ok
        Appointment.objects.get().cancel()
        Appointment.objects.all().delete()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Haircut", "haircut"),
        (" HAIRCUT ", "haircut"),
        ("a haircut please", "haircut"),
        ("haircuts", "haircut"),
        ("beard", "beard trim"),
        ("the child's haircut", "child's haircut"),
    ],
)
def test_a_service_is_known_by_how_people_say_it(haircut: Service, context: ToolContext, said: str, meant: str) -> None:
    create_service(name="beard trim")
    create_service(name="child's haircut")
    assert book(context, service=said).result["service"] == meant


@pytest.mark.parametrize(
    ("said", "code", "sentence"),
    [
        ("colour", "unclear_service", "Do you mean full colour or root colour?"),
        ("wig", "unknown_service", "You can choose full colour, haircut or root colour."),
        ("  ", "unknown_service", "You can choose full colour, haircut or root colour."),
    ],
)
def test_a_service_that_is_not_clear_is_asked_for_again(
    haircut: Service, context: ToolContext, said: str, code: str, sentence: str
) -> None:
    create_service(name="full colour")
    create_service(name="root colour")
    create_service(name="old service", is_active=False)
    result = book(context, service=said)
    assert (result.error_code, result.error_slot) == (code, "service")
    assert sentence in result.error_sentence
    assert not Contact.objects.exists()


def test_a_business_that_offers_nothing_says_so(context: ToolContext) -> None:
    assert book(context).error_sentence == "Nothing can be booked with us at the moment."


# --- what comes in ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tool", "arguments", "code", "slot"),
    [
        ("book_appointment", {"service": "haircut", "starts_at": AT_TEN, "name": "Anna"}, "missing", "phone"),
        ("book_appointment", {"service": "haircut", "starts_at": "tomorrow", **ANNA}, "invalid", "starts_at"),
        ("book_appointment", {"service": "haircut", "starts_at": "2026-13-45T25:61", **ANNA}, "invalid", "starts_at"),
        ("book_appointment", {"service": 3, "starts_at": AT_TEN, **ANNA}, "invalid", "service"),
        ("book_appointment", {"service": "haircut", "starts_at": AT_TEN, **ANNA, "name": ""}, "invalid", "name"),
        ("book_appointment", {"service": "haircut", "starts_at": AT_TEN, **ANNA, "email": "anna"}, "invalid", "email"),
        ("book_appointment", {"service": "haircut", "starts_at": AT_TEN, **ANNA, "colour": "red"}, "invalid", None),
        ("find_appointments", {"phone": "call me"}, "invalid", "phone"),
        ("find_appointments", {"phone": "555"}, "invalid", "phone"),
        ("find_appointments", {"phone": "1" * 24}, "invalid", "phone"),
        ("find_appointments", {"phone": None}, "invalid", "phone"),
        ("find_appointments", {}, "missing", "phone"),
        ("take_message", {"message": ""}, "invalid", "message"),
        ("take_message", {"message": "x" * 2001}, "invalid", "message"),
        ("hand_off", {}, "missing", "reason"),
        ("fly_to_the_moon", {}, "unknown_tool", None),
    ],
)
def test_arguments_that_do_not_fit_are_told_in_a_sentence(
    haircut: Service, context: ToolContext, tool: str, arguments: dict[str, Any], code: str, slot: str | None
) -> None:
    result = run_tool(tool, arguments, context)
    assert (result.ok, result.error_code, result.error_slot) == (False, code, slot)
    assert result.error_sentence.endswith(".")
    assert not Appointment.objects.exists() and not Contact.objects.exists()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("4155550100", "+14155550100"),
        ("(415) 555-0100", "+14155550100"),
        ("1 415 555 0100", "+14155550100"),
        ("+44 20 7946 0018", "+442079460018"),
        ("0044 20 7946 0018", "+442079460018"),
        ("5550100", "5550100"),
    ],
)
def test_a_telephone_number_is_one_however_it_is_written(context: ToolContext, said: str, kept: str) -> None:
    for written in (said, kept):
        assert run_tool("save_contact", {"name": "Anna", "phone": written}, context).result["phone"] == kept
    assert Contact.objects.get().phone == kept


def test_a_character_that_the_database_cannot_keep_is_left_out(haircut: Service, context: ToolContext) -> None:
    assert book(context, name="An\0na", notes="a\0b").ok
    assert (Appointment.objects.get().who, Appointment.objects.get().notes) == ("Anna", "ab")


# --- looking, moving, cancelling --------------------------------------------------------------------------------------
def test_a_free_time_is_confirmed(haircut: Service, context: ToolContext) -> None:
    result = run_tool("check_availability", {"service": "haircut", "starts_at": AT_TEN}, context)
    assert result.result == {"service": "haircut", "free": True, "starts_at": AT_TEN, "alternatives": []}


def test_a_taken_time_comes_with_others(haircut: Service, context: ToolContext) -> None:
    book(context)
    result = run_tool("check_availability", {"service": "haircut", "starts_at": AT_TEN}, context)
    assert result.ok and not result.result["free"]
    assert result.result["alternatives"] == ["2026-03-03T09:00", "2026-03-03T09:15", "2026-03-03T10:45"]


def test_without_a_wish_the_next_free_times_are_told(haircut: Service, context: ToolContext) -> None:
    result = run_tool("check_availability", {"service": "haircut"}, context)
    assert result.result["alternatives"] == ["2026-03-02T09:15", "2026-03-02T09:30", "2026-03-02T09:45"]


def test_coming_appointments_are_found_by_number_the_next_first(haircut: Service, context: ToolContext) -> None:
    book(context, starts_at="2026-03-04T10:00")
    book(context)
    book(context, starts_at="2026-03-04T12:00", phone="415 555 0199")
    result = run_tool("find_appointments", {"phone": "+1 415 555 0100"}, context)
    assert [each["starts_at"] for each in result.result["appointments"]] == [AT_TEN, "2026-03-04T10:00"]
    assert result.result["starts_at"] == AT_TEN


@pytest.mark.parametrize("tool", ["find_appointments", "cancel_appointment", "reschedule_appointment"])
def test_a_number_without_appointments_is_asked_for_again(haircut: Service, context: ToolContext, tool: str) -> None:
    arguments = {"phone": "4155550199"} | ({"starts_at": AT_TEN} if tool.startswith("resch") else {})
    result = run_tool(tool, arguments, context)
    assert (result.error_code, result.error_slot) == ("not_found", "phone")


def test_an_appointment_moves_and_its_old_time_is_told(haircut: Service, context: ToolContext) -> None:
    book(context)
    result = run_tool("reschedule_appointment", {"phone": "4155550100", "starts_at": "2026-03-04T15:30"}, context)
    assert (result.result["before"], result.result["starts_at"]) == (AT_TEN, "2026-03-04T15:30")
    assert Appointment.objects.get().starts_at.isoformat() == "2026-03-04T15:30:00+00:00"


def test_a_move_to_a_taken_time_is_told_with_others(haircut: Service, context: ToolContext) -> None:
    book(context)
    book(context, starts_at="2026-03-03T12:00", phone="415 555 0199")
    result = run_tool("reschedule_appointment", {"phone": "4155550100", "starts_at": "2026-03-03T12:00"}, context)
    assert (result.error_code, result.error_slot) == ("slot_taken", "starts_at")
    assert result.result["alternatives"]
    assert Appointment.objects.of_phone("+14155550100").get().starts_at.hour == 10


def test_cancelling_takes_the_next_and_frees_its_time(haircut: Service, context: ToolContext) -> None:
    book(context)
    book(context, starts_at="2026-03-04T10:00")
    result = run_tool("cancel_appointment", {"phone": "4155550100"}, context)
    assert result.result["starts_at"] == AT_TEN
    assert Appointment.objects.booked().get().starts_at.day == 4
    assert book(context, phone="415 555 0199").ok


def test_what_has_begun_is_neither_moved_nor_cancelled(haircut: Service, agent: Any) -> None:
    book(make_context(agent))
    during = make_context(agent, now=MONDAY + datetime.timedelta(days=1, hours=1, minutes=10))
    assert run_tool("cancel_appointment", {"phone": "4155550100"}, during).error_code == "not_found"


def test_a_caller_reaches_only_the_calendar_of_whom_they_called(
    haircut: Service, context: ToolContext, rival: Tenant
) -> None:
    book(context)
    with enter_tenant(rival.pk):
        other = make_context(create_agent())
        assert run_tool("find_appointments", {"phone": "4155550100"}, other).error_code == "not_found"
        assert run_tool("cancel_appointment", {"phone": "4155550100"}, other).error_code == "not_found"
    assert Appointment.objects.booked().count() == 1
