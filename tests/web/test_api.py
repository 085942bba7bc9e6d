"""What programs do with an API key, and what they are told where they may not."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client

from tenants import people
from tenants.models import ApiKey, Tenant, User
from tenants.scope import enter_tenant
from tenants.standing import suspend_tenant
from tests.web import factories
from voice.models import Ticket

BOTH = ["calls:create", "calls:read"]


def key_of(tenant: Tenant, actor: User, scopes: list[str] = BOTH) -> dict[str, str]:
    """Make a key, and return the header that it goes in."""
    with enter_tenant(tenant.id):
        _, secret = people.create_api_key(name="CRM", scopes=scopes, actor=actor)
    return {"Authorization": f"Bearer {secret}"}


def ask_ticket(visitor: Client, slug: str, key: dict[str, str]) -> Any:
    return visitor.post(f"/api/agents/{slug}/tickets/", b"", content_type="application/json", headers=key)


def test_a_program_makes_a_ticket_for_one_call(visitor: Client, acme: Tenant, alice: User, agent: Any) -> None:
    answer = ask_ticket(visitor, agent.slug, key_of(acme, alice))
    assert answer.status_code == 201
    document = answer.json()
    assert re.fullmatch(r"ws://.+/call/.+/api/chat", document["url"]) and document["ticket"] in document["url"]
    assert document["expires_in_seconds"] == 60
    with enter_tenant(acme.id):
        ticket = Ticket.objects.get()
        assert (ticket.agent_id, ticket.channel, ticket.origin) == (agent.pk, "api", "")
        assert ApiKey.objects.get().last_used_at is not None


def test_a_ticket_may_have_a_page_a_limit_and_a_region(visitor: Client, acme: Tenant, alice: User, agent: Any) -> None:
    body = {"origin": "https://www.acme.example", "max_seconds": 90, "region": "eu-west"}
    answer = visitor.post(
        f"/api/agents/{agent.slug}/tickets/", body, content_type="application/json", headers=key_of(acme, alice)
    )
    assert answer.status_code == 201
    with enter_tenant(acme.id):
        ticket = Ticket.objects.get()
        assert (ticket.origin, ticket.max_seconds) == ("https://www.acme.example", 90)
    assert answer.json()["url"].endswith(f"/call/{answer.json()['ticket']}/api/chat?region=eu-west")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "The body is not JSON."),
        ("[]", "The body is an object"),
        ('{"colour": "red"}', "The body is an object"),
        ('{"origin": "acme"}', "`origin` is an address"),
        ('{"region": "the moon"}', "`region` is one of local, us-east"),
        ('{"region": 7}', "`region` is one of"),
        ('{"max_seconds": 0}', "`max_seconds` is a number"),
        ('{"max_seconds": true}', "`max_seconds` is a number"),
        (json.dumps({"origin": "https://" + "x" * 20_000}), "The body is too long."),
    ],
)
def test_a_body_that_is_not_understood_is_told_in_a_sentence(
    body: str, sentence: str, visitor: Client, acme: Tenant, alice: User, agent: Any
) -> None:
    address = f"/api/agents/{agent.slug}/tickets/"
    answer = visitor.post(address, body, content_type="application/json", headers=key_of(acme, alice))
    assert answer.status_code == 400
    assert answer.json()["sentence"].startswith(sentence)
    with enter_tenant(acme.id):
        assert not Ticket.objects.exists()


def test_calls_are_read_newest_first_and_page_by_page(visitor: Client, acme: Tenant, alice: User, agent: Any) -> None:
    with enter_tenant(acme.id):
        calls = [str(factories.create_call(agent, minutes_ago=minutes).pk) for minutes in (1, 2, 3)]
    key = key_of(acme, alice)
    first = visitor.get("/api/calls/?limit=2", headers=key).json()
    assert [call["id"] for call in first["calls"]] == calls[:2]
    assert first["calls"][0]["cost"] == {"nano_dollars": 428_400}
    second = visitor.get("/api/calls/", {"before": first["before"]}, headers=key).json()
    assert [call["id"] for call in second["calls"]] == calls[2:]
    assert second["before"] is None
    assert visitor.get("/api/calls/?agent=nobody", headers=key).json()["calls"] == []


def test_one_call_is_read_with_its_turns_and_cost(visitor: Client, acme: Tenant, alice: User, agent: Any) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(agent)
    document = visitor.get(f"/api/calls/{call.pk}/", headers=key_of(acme, alice)).json()
    assert (document["id"], document["boot"], len(document["turns"])) == (str(call.pk), "restored", 3)
    assert document["cost"]["nano_dollars"] == sum(part["nano_dollars"] for part in document["cost"]["parts"])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=0", "`limit` is a number"),
        ("limit=many", "`limit` is a number"),
        ("before=yesterday", "`before` is a time"),
        ("before=2026-02-31T00:00:00Z", "`before` is a time"),
        ("before=2026-01-01T00:00:00", "`before` is a time"),
    ],
)
def test_a_query_that_is_not_understood_is_told(
    query: str, sentence: str, visitor: Client, acme: Tenant, alice: User
) -> None:
    answer = visitor.get(f"/api/calls/?{query}", headers=key_of(acme, alice))
    assert (answer.status_code, answer.json()["sentence"][: len(sentence)]) == (400, sentence)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wl_made-up"}, {"Authorization": "Basic eA=="}])
def test_without_a_key_nothing_is_answered(header: dict[str, str], visitor: Client, acme: Tenant) -> None:
    for answer in (
        visitor.get("/api/calls/", headers=header),
        visitor.get(f"/api/calls/{uuid.uuid4()}/", headers=header),
        ask_ticket(visitor, "demo", header),
    ):
        assert (answer.status_code, answer.json()["error"]) == (401, "api_key")
        assert answer["WWW-Authenticate"] == "Bearer"


def test_a_session_of_the_site_is_no_key(client_of: Any, acme: Tenant, alice: User) -> None:
    assert client_of(alice).get("/api/calls/").status_code == 401


def test_a_key_does_what_its_scopes_say(visitor: Client, acme: Tenant, alice: User, agent: Any) -> None:
    reads, places = key_of(acme, alice, ["calls:read"]), key_of(acme, alice, ["calls:create"])
    assert visitor.get("/api/calls/", headers=places).json()["error"] == "scope"
    assert ask_ticket(visitor, agent.slug, reads).status_code == 403
    assert visitor.get("/api/calls/", headers=reads).status_code == 200


def test_a_revoked_key_is_refused(visitor: Client, acme: Tenant, alice: User) -> None:
    key = key_of(acme, alice)
    with enter_tenant(acme.id):
        people.revoke_api_key(key=ApiKey.objects.get(), actor=alice)
    assert visitor.get("/api/calls/", headers=key).status_code == 401


def test_a_key_reaches_nothing_of_another_tenant(
    visitor: Client, acme: Tenant, rival: Tenant, charlie: User, agent: Any
) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(agent)
    key = key_of(rival, charlie)
    assert visitor.get("/api/calls/", headers=key).json()["calls"] == []
    for answer in (
        visitor.get(f"/api/calls/{call.pk}/", headers=key),
        ask_ticket(visitor, agent.slug, key),
    ):
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_a_suspended_tenant_reads_and_places_no_calls(visitor: Client, acme: Tenant, alice: User, agent: Any) -> None:
    key = key_of(acme, alice)
    with enter_tenant(acme.id):
        suspend_tenant(tenant=acme, actor=alice)
    assert visitor.get("/api/calls/", headers=key).status_code == 200
    assert ask_ticket(visitor, agent.slug, key).json()["error"] == "suspended"


def test_an_agent_without_a_version_cannot_be_called(visitor: Client, acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        draft = factories.create_agent(name="Only a draft", is_published=False)
    answer = ask_ticket(visitor, draft.slug, key_of(acme, alice))
    assert (answer.status_code, answer.json()["error"]) == (409, "not_published")
