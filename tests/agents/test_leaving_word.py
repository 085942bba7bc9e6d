"""What a caller leaves for the people of a business reaches them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core import mail

from agents.models import Agent, Contact, HandOff, Message
from agents.tools import run_tool
from tenants.models import Role, Tenant
from tenants.scope import enter_tenant
from tests import factories as people
from tests.agents.factories import create_agent, make_context

WorkQueue = Callable[[], list[str]]


@pytest.mark.parametrize(
    ("tool", "said", "model", "kept_in", "subject"),
    [
        ("take_message", "message", Message, "text", "A message from Anna Smith"),
        ("hand_off", "reason", HandOff, "reason", "Please call back Anna Smith"),
    ],
)
def test_it_is_kept_and_mailed_to_the_owners_alone(
    acme: Tenant, work_queue: WorkQueue, tool: str, said: str, model: type, kept_in: str, subject: str
) -> None:
    people.add_member(tenant=acme, user=people.create_user(email="carol@acme.example"), role=Role.OWNER)
    with enter_tenant(acme.pk):
        context = make_context(create_agent(name="Front desk"))
        arguments = {said: "I will be late.", "name": "Anna Smith", "phone": "415 555 0100"}
        assert run_tool(tool, arguments, context).ok
        left = model.objects.get()
        assert (getattr(left, kept_in), left.call_id) == ("I will be late.", context.call_id)
        assert left.contact.name == "Anna Smith"
        assert list(model.objects.open()) == [left]
        assert work_queue() == [], "nothing may be sent before the row stands"
    assert work_queue() == ["agents.tasks.mail_owners"]
    (sent,) = mail.outbox
    assert sorted(sent.to) == ["alice@acme.example", "carol@acme.example"]
    assert sent.subject == subject
    assert sent.body == "I will be late.\n\nAgent: Front desk\nTelephone: +14155550100\n"


def test_nothing_is_mailed_when_the_transaction_fails(acme: Tenant, work_queue: WorkQueue) -> None:
    with pytest.raises(ZeroDivisionError), enter_tenant(acme.pk):
        run_tool("take_message", {"message": "Hello there"}, make_context(create_agent()))
        raise ZeroDivisionError
    assert work_queue() == []
    with enter_tenant(acme.pk):
        assert not Message.objects.exists()


def test_somebody_who_gives_no_name_is_a_caller(acme: Tenant, work_queue: WorkQueue) -> None:
    with enter_tenant(acme.pk):
        run_tool("hand_off", {"reason": "Wants a person"}, make_context(create_agent()))
        assert HandOff.objects.get().contact is None
        assert not Contact.objects.exists()
    work_queue()
    assert mail.outbox[0].subject == "Please call back a caller"


def test_the_number_that_called_is_enough_to_call_back(inside: Tenant, agent: Agent) -> None:
    run_tool("hand_off", {"reason": "Wants a person"}, make_context(agent, caller_number="+442079460018"))
    assert HandOff.objects.get().contact.phone == "+442079460018"


def test_a_name_over_two_lines_cannot_forge_a_header(acme: Tenant, work_queue: WorkQueue) -> None:
    with enter_tenant(acme.pk):
        arguments = {"message": "Hello there", "name": "Anna\r\nBcc: mallory@example.com"}
        assert run_tool("take_message", arguments, make_context(create_agent())).ok
    work_queue()
    assert mail.outbox[0].subject == "A message from Anna Bcc: mallory@example.com"
    assert mail.outbox[0].recipients() == ["alice@acme.example"]


def test_a_business_without_owners_gets_no_mail_and_keeps_the_message(work_queue: WorkQueue) -> None:
    tenant = people.create_tenant(name="Nobody's", owner=None)
    with enter_tenant(tenant.pk):
        run_tool("take_message", {"message": "Hello there"}, make_context(create_agent()))
    assert work_queue() == ["agents.tasks.mail_owners"]
    assert mail.outbox == []
    with enter_tenant(tenant.pk):
        assert Message.objects.exists()


def test_a_contact_gathers_what_is_learnt_of_them(inside: Tenant, agent: Agent) -> None:
    context = make_context(agent)
    run_tool("save_contact", {"name": "Anna", "phone": "4155550100", "notes": "Likes tea"}, context)
    run_tool(
        "save_contact",
        {"name": "Anna Smith", "phone": "4155550100", "email": "anna@example.com", "notes": "Has a dog"},
        context,
    )
    kept = Contact.objects.get()
    assert (kept.name, kept.email, kept.notes) == ("Anna Smith", "anna@example.com", "Likes tea\nHas a dog")
