"""Whose number a SIP trunk brings: several may ask, the operator confirms one, and calls go there alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from aiosipua import SipRequest
from django.conf import settings
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.utils import timezone

from agents.models import Agent
from billing.models import Plan
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests import factories as people
from tests.voice.telephony.processes import OTHER_NUMBER as NUMBER
from tests.web import factories
from tests.web.pages import words
from voice.telephony import numbers
from voice.telephony.models import TelephoneLeg, TelephoneNumber
from voice.telephony.routing import CallDeclined, choose_agent, find_tenant_of
from voice.telephony.sip.answering import NoSuchNumber, ring

FLEET = "/fleet/numbers/"


def ask(tenant: Tenant, actor: User, *, number: str = NUMBER) -> TelephoneNumber:
    with enter_tenant(tenant.id):
        agent = Agent.objects.first() or factories.create_agent()
        return numbers.add_number(number=number, carrier="sip", agent=agent, settings={}, hours={}, actor=actor)


def decide(client: Any, number: TelephoneNumber, action: str) -> str:
    return words(client.post(f"{FLEET}{number.pk}/standing/", {"action": action}, follow=True).content.decode())


def standing_of(number: TelephoneNumber) -> str:
    with enter_tenant(number.tenant_id):
        return TelephoneNumber.objects.get(pk=number.pk).standing


def is_taken(number: TelephoneNumber) -> bool:
    """Return whether a ring over SIP finds the number; nobody here serves calls, so its agent may decline."""
    invite = SipRequest(method="INVITE", uri=f"sip:{number.number}@127.0.0.1")
    try:
        asyncio.run(ring(invite, name=f"ring {timezone.now()}"))
    except NoSuchNumber:
        return False
    except CallDeclined:
        pass
    return True


def trail_of(tenant: Tenant) -> list[tuple[str, str, str]]:
    with enter_tenant(tenant.id):
        entries = AuditEntry.objects.filter(action__startswith="number.").order_by("occurred_at")
        return [(each.action, each.target, each.actor_name) for each in entries]


def test_a_number_of_a_trunk_takes_no_call_until_it_is_confirmed_and_its_page_says_so(
    client_of: Any, acme: Tenant, alice: User, olivia: User
) -> None:
    with enter_tenant(acme.id):
        agent = factories.create_agent()
    owner, operator = client_of(alice), client_of(olivia)
    assert "confirmed that it is yours" in words(owner.get("/t/acme/telephone/numbers/new/").content.decode())
    form = {"number": NUMBER, "carrier": "sip", "agent": agent.pk, "outside": "message"}
    page = words(owner.post("/t/acme/telephone/numbers/new/", form, follow=True).content.decode())
    assert f"{NUMBER} waits for the operator, and takes no calls until it is confirmed" in page
    assert "1 of the 5 in the plan" in page
    with enter_tenant(acme.id):
        number = TelephoneNumber.objects.get()
        with pytest.raises(CallDeclined):
            choose_agent(number, at=timezone.now())
    assert find_tenant_of(NUMBER) is None
    address = f"/t/acme/telephone/numbers/{number.pk}/"
    assert "This number takes no calls yet" in words(owner.get(address).content.decode())
    # Nothing that its tenant sends changes that.
    owner.post(address, {**form, "standing": "confirmed"})
    assert standing_of(number) == "waiting"

    assert "1 telephone number waits to be confirmed" in words(operator.get("/fleet/").content.decode())
    page = words(operator.get(FLEET).content.decode())
    assert "1 waits to be confirmed" in page and NUMBER in page and "Acme" in page
    assert f"{NUMBER} is confirmed: its calls come to Acme." in decide(operator, number, "confirm")
    assert find_tenant_of(NUMBER) == acme.id
    assert "takes no calls" not in words(owner.get(address).content.decode())

    assert f"{NUMBER} is refused" in decide(operator, number, "refuse")
    assert find_tenant_of(NUMBER) is None
    assert "the operator of this installation has refused it" in words(owner.get(address).content.decode())
    decide(operator, number, "refuse")  # nothing happens a second time
    assert trail_of(acme) == [
        ("number.added", NUMBER, alice.email),
        ("number.changed", NUMBER, alice.email),
        ("number.confirmed", NUMBER, olivia.email),
        ("number.refused", NUMBER, olivia.email),
    ]
    assert "Choose whether" in decide(operator, number, "")


def test_the_owners_are_told_by_mail_what_was_decided_once(
    client_of: Any, acme: Tenant, alice: User, olivia: User, work_queue: Callable[[], list[str]]
) -> None:
    number = ask(acme, alice)
    work_queue()
    for action in ("confirm", "confirm", "refuse"):
        decide(client_of(olivia), number, action)
    assert work_queue() == ["agents.tasks.mail_owners"] * 2
    confirmed, refused = mail.outbox
    assert confirmed.to == refused.to == [alice.email]
    assert confirmed.subject == f"{NUMBER} takes calls now" and refused.subject == f"{NUMBER} takes no calls"
    assert all(f"/t/acme/telephone/numbers/{number.pk}/" in each.body for each in (confirmed, refused))


def test_two_tenants_ask_for_a_number_and_its_calls_go_to_whom_it_was_confirmed_for(
    client_of: Any, acme: Tenant, rival: Tenant, alice: User, charlie: User, olivia: User
) -> None:
    operator = client_of(olivia)
    squatted, theirs = ask(acme, alice), ask(rival, charlie)
    assert not is_taken(theirs)
    page = words(operator.get(FLEET).content.decode())
    assert "2 wait to be confirmed" in page and "Acme" in page and "Rival" in page
    # Neither sees that the other asked.
    assert "Acme" not in client_of(charlie).get("/t/rival/telephone/").content.decode()

    decide(operator, theirs, "confirm")
    assert find_tenant_of(NUMBER) == rival.id
    assert f"{NUMBER} is confirmed for Rival: refuse it there first." in decide(operator, squatted, "confirm")
    assert (standing_of(squatted), standing_of(theirs)) == ("waiting", "confirmed")
    assert is_taken(theirs)
    with enter_tenant(acme.id):
        assert not TelephoneLeg.objects.exists()
        with pytest.raises(CallDeclined):
            choose_agent(squatted, at=timezone.now())
    with enter_tenant(rival.id):
        assert TelephoneLeg.objects.get().our_number == NUMBER
    assert [action for action, _, _ in trail_of(acme)] == ["number.added"]

    # A number that changed hands is moved by the operator.
    decide(operator, theirs, "refuse")
    decide(operator, squatted, "confirm")
    assert find_tenant_of(NUMBER) == acme.id


def test_the_database_lets_no_second_tenant_have_a_number(
    acme: Tenant, rival: Tenant, alice: User, charlie: User
) -> None:
    first, second = ask(acme, alice), ask(rival, charlie)
    numbers.confirm_number(number=first, actor=None)
    with pytest.raises(IntegrityError, match="one_tenant_per_confirmed_number"), enter_tenant(rival.id):
        TelephoneNumber.objects.filter(pk=second.pk).update(standing="confirmed")


def test_a_tenant_asks_for_a_number_once(acme: Tenant, alice: User) -> None:
    ask(acme, alice)
    with pytest.raises(numbers.NumberTaken, match="one of your numbers already"):
        ask(acme, alice)


def test_without_the_setting_a_number_is_confirmed_at_once(
    acme: Tenant, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SIP_NUMBERS_NEED_CONFIRMATION", False)
    assert ask(acme, alice).is_confirmed
    assert find_tenant_of(NUMBER) == acme.id


def test_a_command_confirms_a_number(acme: Tenant, rival: Tenant, alice: User, charlie: User) -> None:
    def confirm(number: str, tenant: str) -> str:
        output = StringIO()
        call_command("confirm_number", number, "--tenant", tenant, stdout=output)
        return output.getvalue()

    ask(acme, alice)
    ask(rival, charlie)
    assert confirm(NUMBER, "acme") == f"{NUMBER} is confirmed: its calls come to Acme.\n"
    assert find_tenant_of(NUMBER) == acme.id
    assert trail_of(acme)[-1] == ("number.confirmed", NUMBER, "Warmline")
    for number, tenant, sentence in (
        (NUMBER, "rival", "is confirmed for Acme"),
        (NUMBER, "nobody", "There is no tenant 'nobody'"),
        ("+14155550199", "acme", "Acme has not asked for"),
        ("nine", "acme", "no telephone number"),
    ):
        with pytest.raises(CommandError, match=sentence):
            confirm(number, tenant)


def test_the_plans_numbers_are_the_limit(client_of: Any, alice: User) -> None:
    tenant = people.create_tenant(name="Small", owner=alice, plan="starter")
    first = ask(tenant, alice)
    with pytest.raises(numbers.NoRoomForNumber, match="Starter plan has 1 telephone number:"):
        ask(tenant, alice, number="+14155550199")
    with enter_tenant(tenant.id):
        agent = Agent.objects.get()
    form = {"number": "+14155550199", "carrier": "sip", "agent": agent.pk, "outside": "message"}
    answer = client_of(alice).post("/t/small/telephone/numbers/new/", form)
    assert answer.status_code == 422
    assert "The Starter plan has 1 telephone number: take one out of service" in answer.content.decode()
    # What was refused takes no place.
    with enter_operator("a test", reason="refuse a number"):
        numbers.refuse_number(number=first, actor=None)
    ask(tenant, alice, number="+14155550199")


def test_pages_of_plans_show_their_numbers(client_of: Any, visitor: Any, acme: Tenant, alice: User) -> None:
    found = dict(Plan.objects.public().values_list("slug", "max_numbers"))
    assert found == {"starter": 1, "growth": 5, "scale": 25}
    assert "Telephone numbers 1 5 25" in words(visitor.get("/pricing/").content.decode())
    assert "Numbers" in words(client_of(alice).get("/t/acme/billing/").content.decode())
