"""Agents: the list, a new one from the catalogue, its own page, its versions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings

from agents.catalog import VERTICALS, all_templates
from agents.models import Agent, AgentVersion, Service
from agents.versions import publish, save_draft
from billing.entitlements import entitlements_of
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests import factories as people
from tests.web import factories
from tests.web.pages import words
from voice.models import Ticket


def publish_with(agent: Agent, user: User, note: str = "", **changes: Any) -> AgentVersion:
    with enter_tenant(agent.tenant_id):
        agent.refresh_from_db()
        save_draft(agent=agent, draft={**agent.draft, **changes}, actor=user)
        return publish(agent=agent, actor=user, note=note)


def test_the_list_shows_agents_with_their_week(client_of: Any, acme: Tenant, agent: Agent, bob: User) -> None:
    with enter_tenant(acme.id):
        factories.create_call(agent)
        factories.create_agent(name="Draft desk", is_published=False)
    said = words(client_of(bob).get("/t/acme/agents/").content.decode())
    assert re.search(r"Front desk Salon version 1 Cascade 1 (8[89]\d|9\d\d) ms \$0\.000428", said)
    assert re.search(r"Draft desk Salon draft –", said)


def test_templates_of_every_vertical_are_offered(client_of: Any, dora: User) -> None:
    page = client_of(dora).get("/t/acme/agents/new/").content.decode()
    for name in VERTICALS.values():
        assert name.replace("&", "&amp;") in page
    for template in all_templates():
        assert f'value="{template.slug}"' in page


def test_an_agent_is_made_from_a_template(client_of: Any, acme: Tenant, dora: User) -> None:
    answer = client_of(dora).post("/t/acme/agents/new/", {"template": "salon-front-desk", "name": "Reception"})
    assert answer.headers["Location"] == "/t/acme/agents/reception/draft/"
    with enter_tenant(acme.id):
        made = Agent.objects.get()
        assert (made.name, made.live_version, made.draft["name"]) == ("Reception", None, "Reception")
        assert Service.objects.filter(name="haircut").exists()


def test_an_agent_cannot_take_the_address_of_the_page_for_new_ones(client_of: Any, acme: Tenant, dora: User) -> None:
    answer = client_of(dora).post("/t/acme/agents/new/", {"template": "salon-front-desk", "name": "New"})
    assert answer.headers["Location"] == "/t/acme/agents/new-2/draft/"


def test_without_a_template_it_says_so_and_keeps_the_name(client_of: Any, dora: User) -> None:
    answer = client_of(dora).post("/t/acme/agents/new/", {"name": "Reception"})
    assert answer.status_code == 422
    assert "Choose a template." in answer.content.decode()
    assert 'value="Reception"' in answer.content.decode()


def test_the_plans_number_of_agents_is_the_limit(client_of: Any, alice: User) -> None:
    tenant = people.create_tenant(name="Small", owner=alice, plan="trial")
    with enter_tenant(tenant.id):
        limit = entitlements_of().agents
        for _ in range(limit):
            factories.create_agent(is_published=False)
    answer = client_of(alice).post("/t/small/agents/new/", {"template": "salon-front-desk", "name": "One more"})
    assert answer.status_code == 422
    assert f"The plan allows {limit} agents" in answer.content.decode()


def test_the_page_says_what_is_live_and_where_to_call_it(client_of: Any, agent: Agent, bob: User) -> None:
    page = client_of(bob).get("/t/acme/agents/front-desk/").content.decode()
    assert agent.public_key in page
    assert f"{settings.GATEWAY_URL}/agent/{agent.public_key}" in page
    assert "Version 1" in page
    # A viewer reads, and does not talk.
    assert "data-talk" not in page and "Talking takes the role developer" in page


def test_a_developer_can_talk_to_it(client_of: Any, agent: Agent, dora: User) -> None:
    page = client_of(dora).get("/t/acme/agents/front-desk/").content.decode()
    assert 'data-ticket-url="/t/acme/agents/front-desk/ticket/"' in page and "web/talk/panel.js" in page


def test_a_ticket_is_for_this_page_alone(client_of: Any, acme: Tenant, agent: Agent, dora: User) -> None:
    answer = client_of(dora).post("/t/acme/agents/front-desk/ticket/", headers={"host": "localhost"})
    assert re.fullmatch(rf"{settings.GATEWAY_URL}/call/[\w-]{{20,}}/api/chat", answer.json()["url"])
    with enter_tenant(acme.id):
        ticket = Ticket.objects.get()
    assert (ticket.agent_id, ticket.origin, ticket.issued_by_id, ticket.channel) == (
        agent.pk,
        "http://localhost",
        dora.pk,
        "browser",
    )


def test_an_agent_without_a_version_gets_no_ticket(client_of: Any, acme: Tenant, dora: User) -> None:
    with enter_tenant(acme.id):
        factories.create_agent(is_published=False)
    client = client_of(dora)
    answer = client.post("/t/acme/agents/front-desk/ticket/")
    assert (answer.status_code, answer.json()) == (
        409,
        {"error": "Front desk has no published version: publish one before calling it."},
    )
    assert "It has no published version" in client.get("/t/acme/agents/front-desk/").content.decode()


def test_moshi_is_said_to_follow_no_prompt(client_of: Any, agent: Agent, dora: User) -> None:
    publish_with(agent, dora, engine="moshi")
    said = words(client_of(dora).get("/t/acme/agents/front-desk/").content.decode())
    assert "It follows no prompt and calls no tools." in said


def test_who_may_call_it_is_changed_at_once(client_of: Any, acme: Tenant, agent: Agent, dora: User) -> None:
    typed = {"allowed_origins": "https://www.acme.example/\n\nhttp://localhost:3000", "calls_per_minute": "5"}
    assert client_of(dora).post("/t/acme/agents/front-desk/access/", typed).status_code == 302
    with enter_tenant(acme.id):
        agent.refresh_from_db()
        assert AuditEntry.objects.filter(action="agent.access_changed").exists()
    assert agent.allowed_origins == ["https://www.acme.example", "http://localhost:3000"]
    assert agent.calls_per_minute == 5


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"allowed_origins": "acme.example", "calls_per_minute": "5"}, "is not the origin of a page"),
        ({"allowed_origins": "", "calls_per_minute": "0"}, "greater than or equal to 1"),
        ({"allowed_origins": "", "calls_per_minute": "many"}, "Enter a whole number."),
    ],
)
def test_a_bad_origin_or_rate_is_told_beside_what_was_typed(
    typed: dict[str, str], sentence: str, client_of: Any, acme: Tenant, agent: Agent, dora: User
) -> None:
    answer = client_of(dora).post("/t/acme/agents/front-desk/access/", typed)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert sentence in page and typed["allowed_origins"] in page and f'value="{typed["calls_per_minute"]}"' in page
    with enter_tenant(acme.id):
        agent.refresh_from_db()
    assert agent.calls_per_minute == 30


def test_versions_are_listed_and_compared(client_of: Any, agent: Agent, dora: User, bob: User) -> None:
    publish_with(agent, dora, note="Shorter", greeting="Hello!")
    publish_with(agent, dora, goodbye="Bye!")
    page = client_of(bob).get("/t/acme/agents/front-desk/versions/?from=1&to=2").content.decode()
    assert "Shorter" in page and dora.email in page
    assert "<ins>Hello!</ins>" in page and "<del>Hello, this is {business}. How can I help you?</del>" in page
    assert "Bye!" not in page
    assert (
        "They are the same." in client_of(bob).get("/t/acme/agents/front-desk/versions/?from=2&to=2").content.decode()
    )
    assert (
        "Choose two versions" in client_of(bob).get("/t/acme/agents/front-desk/versions/?from=9&to=2").content.decode()
    )


def test_a_version_shows_what_is_new_in_it(client_of: Any, agent: Agent, dora: User, bob: User) -> None:
    facts = [{**agent.draft["facts"][0], "answer": "Always."}, *agent.draft["facts"][1:]]
    publish_with(agent, dora, facts=facts)
    page = client_of(bob).get("/t/acme/agents/front-desk/versions/2/").content.decode()
    assert "What is new since version 1" in page and "<ins>Always.</ins>" in page
    assert "How much is a haircut?" in page  # the whole configuration
    assert page.count("<ins>") == 1


def test_an_older_version_is_made_live_again(client_of: Any, acme: Tenant, agent: Agent, dora: User) -> None:
    publish_with(agent, dora, greeting="Hello!")
    client = client_of(dora)
    answer = client.post("/t/acme/agents/front-desk/versions/1/roll-back/", follow=True)
    assert "Version 1 is live again." in answer.content.decode()
    with enter_tenant(acme.id):
        agent.refresh_from_db()
        assert agent.live_version.number == 1
    answer = client.post("/t/acme/agents/front-desk/versions/1/roll-back/", follow=True)
    assert "Version 1 is the live one already." in answer.content.decode()


def test_an_archived_agent_stays_readable(client_of: Any, acme: Tenant, agent: Agent, alice: User) -> None:
    with enter_tenant(acme.id):
        factories.create_call(agent)
    client = client_of(alice)
    assert client.post("/t/acme/agents/front-desk/archive/").status_code == 302
    assert "Front desk</a>" not in client.get("/t/acme/agents/").content.decode()
    assert "It is archived" in client.get("/t/acme/agents/front-desk/").content.decode()
    assert client.post("/t/acme/agents/front-desk/ticket/").status_code == 409
