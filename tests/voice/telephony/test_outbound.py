"""Calls that agents place: the rules that hold them back, and calls over a simulated Twilio."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants import people
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.voice.telephony.conftest import ALWAYS, Connect
from tests.voice.telephony.legs import finished
from tests.voice.telephony.processes import NUMBER, OTHER_NUMBER, CarrierProcess
from voice.telephony import outbound, sweeping
from voice.telephony.models import OutboundRules, TelephoneLeg

BERLINER = "+493012345678"


def rules(**hours: Any) -> OutboundRules:
    return OutboundRules(**{"calls_from": datetime.time(9), "calls_until": datetime.time(20), "weekdays": [], **hours})


@pytest.mark.parametrize(
    ("number", "at", "refusal"),
    [
        # New York and Los Angeles are three hours apart; this moment is 12:00 and 09:00 there.
        ("+12125550177", "2026-03-02T17:00+00:00", None),
        ("+12125550177", "2026-03-02T13:30+00:00", "Monday, 08:30 in America/New York"),
        ("+12125550177", "2026-03-03T01:00+00:00", "Monday, 20:00 in America/New York"),
        ("+14155550123", "2026-03-02T16:30+00:00", "Monday, 08:30 in America/Los Angeles"),
        (BERLINER, "2026-03-02T12:00+00:00", None),
        (BERLINER, "2026-03-02T19:30+00:00", "Monday, 20:30 in Europe/Berlin"),
        # A toll-free number may ring anywhere from Guam to Newfoundland.
        ("+18005550100", "2026-03-02T17:00+00:00", "a quiet hour there"),
    ],
)
def test_nobody_is_called_in_a_quiet_hour_of_theirs(acme: Tenant, number: str, at: str, refusal: str | None) -> None:
    with enter_tenant(acme.id):
        found = outbound.quiet_hours(rules(), number, at=datetime.datetime.fromisoformat(at))
    assert found is None if refusal is None else found is not None and refusal in found


def test_days_without_calls_are_the_recipients_days(acme: Tenant) -> None:
    sunday_there = datetime.datetime.fromisoformat("2026-03-02T04:00+00:00")  # Monday in Berlin, Sunday in New York
    with enter_tenant(acme.id):
        weekdays = rules(calls_from=datetime.time(0), calls_until=datetime.time(23, 59), weekdays=[0, 1, 2, 3, 4])
        assert outbound.quiet_hours(weekdays, BERLINER, at=sunday_there) is None
        assert "Sunday" in str(outbound.quiet_hours(weekdays, "+12125550177", at=sunday_there))


@pytest.mark.parametrize(
    ("typed", "number"),
    [("(212) 555-0177", "+12125550177"), ("+49 30 12345678", BERLINER), ("1 212 555 0177", "+12125550177")],
)
def test_numbers_are_read_however_they_are_typed(typed: str, number: str) -> None:
    assert outbound.read_number(typed) == number


@pytest.mark.parametrize("typed", ["", "nine", "911 call", "+1", "+999123456789", "12"])
def test_what_is_no_number_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        outbound.read_number(typed)


def refused(code: str, **of: Any) -> None:
    with pytest.raises(outbound.CallNotPlaced) as refusal:
        outbound.place_call(**of)
    assert refusal.value.code == code


def test_a_call_is_placed_only_where_everything_allows_it(acme: Tenant, alice: User, number_of: Connect) -> None:
    number, agent = number_of("whistle")
    of = {"agent": agent, "to": "+12125550177", "number": number, "placed_by": alice}
    with enter_tenant(acme.id):
        refused("rules", **of)
        outbound.agree_to_rules(**ALWAYS, actor=alice)
        refused("number", **{**of, "to": "nobody"})
        refused("premium", **{**of, "to": "+19002345678"})
        entry = outbound.do_not_call(number="(212) 555-0177", actor=alice)
        refused("do_not_call", **of)
        outbound.allow_again(entry=entry, actor=alice)
        agent.live_version = None
        refused("not_published", **of)
        agent.refresh_from_db()
        outbound.agree_to_rules(
            calls_from=datetime.time(0), calls_until=datetime.time(0, 0, 1), weekdays=[], actor=alice
        )
        refused("quiet_hours", **of)
        outbound.withdraw_from_rules(actor=alice)
        refused("rules", **of)
        assert not TelephoneLeg.objects.exists()
        actions = AuditEntry.objects.filter(action__regex="outbound|do_not_call").values_list("action", flat=True)
        assert sorted(actions) == [
            "do_not_call.added",
            "do_not_call.removed",
            "outbound.agreed",
            "outbound.hours",
            "outbound.withdrawn",
        ]


def test_a_program_places_a_call_and_asks_how_it_went(
    twilio: CarrierProcess, acme: Tenant, rival: Tenant, alice: User, charlie: User, number_of: Connect
) -> None:
    _, agent = number_of("whistle")
    client = Client()

    def key(tenant: Tenant, actor: User) -> dict[str, str]:
        with enter_tenant(tenant.id):
            _, secret = people.create_api_key(name="CRM", scopes=["calls:create", "calls:read"], actor=actor)
        return {"Authorization": f"Bearer {secret}"}

    def post(body: Any, headers: dict[str, str]) -> Any:
        return client.post(
            f"/api/agents/{agent.slug}/telephone-calls/",
            json.dumps(body),
            content_type="application/json",
            headers=headers,
        )

    ours, theirs = key(acme, alice), key(rival, charlie)
    assert post({"to": "+12125550177"}, ours).json()["error"] == "rules"
    with enter_tenant(acme.id):
        outbound.agree_to_rules(**ALWAYS, actor=alice)
    answer = post({"to": "+12125550177", "from": NUMBER}, ours)
    assert answer.status_code == 202
    placed = answer.json()
    assert (placed["status"], placed["to"], placed["from"], placed["call_id"]) == (
        "waiting",
        "+12125550177",
        NUMBER,
        None,
    )
    assert client.get(f"/api/telephone-calls/{placed['id']}/", headers=ours).json() == placed
    assert client.get(f"/api/telephone-calls/{placed['id']}/", headers=theirs).status_code == 404
    assert post({"to": "+12125550177"}, theirs).status_code == 404  # the agent is not theirs
    for body in ({}, {"to": 5}, {"to": "+12125550177", "from": OTHER_NUMBER}, {"whom": "x"}, []):
        assert post(body, ours).status_code == 400


def old(acme: Tenant, leg: TelephoneLeg, *, minutes: int) -> None:
    with enter_tenant(acme.id):
        TelephoneLeg.objects.filter(pk=leg.pk).update(rang_at=timezone.now() - datetime.timedelta(minutes=minutes))


def test_a_leg_whose_end_was_never_told_is_asked_about(acme: Tenant, placed: Callable[..., TelephoneLeg]) -> None:
    leg = finished(acme, pk=placed(status="busy").pk)
    with enter_tenant(acme.id):  # as if the callback had been lost
        TelephoneLeg.objects.filter(pk=leg.pk).update(status="ringing", ended_at=None)
    assert sweeping.sweep_legs() == 0  # too soon
    old(acme, leg, minutes=3)
    assert sweeping.sweep_legs() == 1
    sweeping.settle_leg(tenant_id=str(acme.id), leg_id=str(leg.pk))
    assert finished(acme, pk=leg.pk).status == "busy"


def test_a_leg_that_nobody_knows_of_is_given_up_and_one_that_waits_is_not_yet(
    acme: Tenant, alice: User, number_of: Connect
) -> None:
    number, agent = number_of("whistle")
    with enter_tenant(acme.id):
        outbound.agree_to_rules(**ALWAYS, actor=alice)
        leg = outbound.place_call(agent=agent, to="+12125550177", number=number, placed_by=None)
    for minutes, status in ((3, "waiting"), (11, "failed")):
        old(acme, leg, minutes=minutes)
        sweeping.settle_leg(tenant_id=str(acme.id), leg_id=str(leg.pk))
        with enter_tenant(acme.id):
            leg.refresh_from_db()
        assert leg.status == status
