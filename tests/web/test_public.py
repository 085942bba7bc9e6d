"""What a visitor sees: the home page with its demo, prices, and the pages for signing in."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.test import Client, override_settings
from django.utils import timezone

from agents.models import Agent, AgentVersion
from billing.models import Plan
from tenants import people
from tenants.lookups import memberships_of
from tenants.models import Role, Tenant, User
from tenants.scope import enter_tenant
from voice.models import Call, Ticket

CONFIG = {
    "name": "Salon Aurora",
    "engine": "cascade",
    "facts": [{"question": "When are you open?", "answer": "From nine to six."}],
    "intents": [{"name": "book", "examples": ["I'd like a haircut."]}],
}


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    cache.clear()


def create_demo_agent(house: Tenant, *, slug: str = "aurora", is_published: bool = True) -> Agent:
    with enter_tenant(house.pk):
        agent = Agent.objects.create(slug=slug, name="Salon Aurora", vertical="salon", draft=CONFIG)
        if is_published:
            agent.live_version = AgentVersion.objects.create(agent=agent, number=1, config=CONFIG, engine="cascade")
            agent.save(update_fields=["live_version"])
        return agent


def create_demo_call(house: Tenant, agent: Agent, **fields: object) -> Call:
    with enter_tenant(house.pk):
        return Call.objects.create(agent=agent, version_id=agent.live_version_id, channel=Call.Channel.DEMO, **fields)


def ask_for_ticket(visitor: Client, agent: str = "aurora", address: str = "203.0.113.7") -> object:
    return visitor.post("/demo/ticket/", {"agent": agent}, REMOTE_ADDR=address, headers={"host": "localhost"})


def test_the_home_page_offers_the_demo_agents(visitor: Client, house: Tenant) -> None:
    create_demo_agent(house)
    create_demo_agent(house, slug="unpublished", is_published=False)
    page = visitor.get("/").content.decode()
    assert 'value="aurora"' in page
    assert "I&#x27;d like a haircut." in page
    assert "unpublished" not in page


def test_the_home_page_stands_without_a_demo(visitor: Client) -> None:
    page = visitor.get("/")
    assert page.status_code == 200
    assert "The demo is not set up" in page.content.decode()


def test_the_home_page_shows_only_what_was_measured_here(visitor: Client, house: Tenant) -> None:
    create_demo_agent(house)
    assert "Its own figures appear here after the first." in visitor.get("/").content.decode()


@pytest.mark.parametrize(
    "path", ["/", "/pricing/", "/break-even/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"]
)
def test_pages_have_no_inline_script_and_no_inline_style(visitor: Client, path: str) -> None:
    page = visitor.get(path).content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\sstyle=|<style", page)
    assert not re.search(r"\son[a-z]+=", page)


def test_a_visitor_gets_a_ticket_for_a_minute(visitor: Client, house: Tenant) -> None:
    agent = create_demo_agent(house)
    answer = ask_for_ticket(visitor)
    assert answer.status_code == 200
    assert answer.json()["max_seconds"] == 60
    assert re.fullmatch(rf"{settings.GATEWAY_URL}/call/[\w-]{{20,}}/api/chat", answer.json()["url"])
    with enter_tenant(house.pk):
        ticket = Ticket.objects.get()
    assert (ticket.agent_id, ticket.channel, ticket.max_seconds) == (agent.pk, Call.Channel.DEMO, 60)
    assert ticket.origin == "http://localhost"


def test_an_agent_outside_the_demo_gets_no_ticket(visitor: Client, house: Tenant, acme: Tenant) -> None:
    with enter_tenant(acme.pk):
        Agent.objects.create(slug="private", name="Private", vertical="salon", draft=CONFIG)
    create_demo_agent(house, slug="unpublished", is_published=False)
    for slug in ("private", "unpublished", "", "../aurora"):
        answer = ask_for_ticket(visitor, slug)
        assert answer.status_code == 404
        assert "not part of the demo" in answer.json()["error"]


def test_without_a_demo_a_ticket_is_refused_in_a_sentence(visitor: Client) -> None:
    answer = ask_for_ticket(visitor)
    assert answer.status_code == 503
    assert answer.json() == {"error": "There is no demo on this installation yet."}


@override_settings(DEMO_LINES=2)
def test_busy_lines_are_told(visitor: Client, house: Tenant) -> None:
    agent = create_demo_agent(house)
    create_demo_call(house, agent, status=Call.Status.LIVE)
    create_demo_call(house, agent, status=Call.Status.ENDED)
    assert ask_for_ticket(visitor).status_code == 200  # the second line: promised by a ticket that is not used yet
    answer = ask_for_ticket(visitor)
    assert answer.status_code == 503
    assert "All demo lines are busy" in answer.json()["error"]
    with enter_tenant(house.pk):
        Ticket.objects.update(created_at=timezone.now() - timedelta(seconds=11))
    assert ask_for_ticket(visitor).status_code == 200  # that ticket was given up


@override_settings(DEMO_CALLS_PER_HOUR=2)
def test_an_address_that_calls_too_often_is_told(visitor: Client, house: Tenant) -> None:
    create_demo_agent(house)
    assert [ask_for_ticket(visitor).status_code for _ in range(3)] == [200, 200, 429]
    assert ask_for_ticket(visitor, address="203.0.113.8").status_code == 200


def test_a_ticket_needs_the_pages_own_token(house: Tenant) -> None:
    create_demo_agent(house)
    assert Client(enforce_csrf_checks=True).post("/demo/ticket/", {"agent": "aurora"}).status_code == 403


def test_a_ticket_is_not_given_for_a_mere_look(visitor: Client) -> None:
    assert visitor.get("/demo/ticket/").status_code == 405


def test_the_prices_are_those_of_the_plans(visitor: Client) -> None:
    page = visitor.get("/pricing/").content.decode()
    for plan in Plan.objects.public():
        assert plan.name in page
        assert f"${plan.monthly_price_cents // 100:,}" in page
        assert plan.support in page
    for hidden in Plan.objects.filter(is_public=False):
        assert f"<h2>{hidden.name}</h2>" not in page


def test_a_wrong_password_is_told_beside_what_was_typed(visitor: Client, alice: User) -> None:
    page = visitor.post("/accounts/login/", {"login": alice.email, "password": "wrong"}).content.decode()
    assert f'value="{alice.email}"' in page
    assert "not correct" in page
    assert 'role="alert"' in page


@pytest.mark.parametrize(
    "path", ["/accounts/password/change/", "/accounts/logout/", "/accounts/email/", "/accounts/reauthenticate/"]
)
def test_the_pages_of_an_account_are_ours(client_of: object, alice: User, acme: Tenant, path: str) -> None:
    page = client_of(alice).get(path)
    assert page.status_code == 200
    assert "web/warmline.css" in page.content.decode()


def test_an_unknown_page_is_told_in_our_design(visitor: Client) -> None:
    answer = visitor.get("/nothing-here/")
    assert answer.status_code == 404
    assert "There is no such page" in answer.content.decode()


def test_the_style_guide_is_for_developers_alone(visitor: Client) -> None:
    assert visitor.get("/styleguide/").status_code == 404
    with override_settings(DEBUG=True):
        assert visitor.get("/styleguide/").status_code == 200


SIGN_UP = {"email": "dora@bakery.example", "password1": "a long and silly passphrase", "time_zone": "Europe/Paris"}


def test_signing_up_opens_a_business(visitor: Client) -> None:
    answer = visitor.post("/accounts/signup/", {**SIGN_UP, "business_name": "Dora's Bakery"})
    assert answer.status_code == 302
    dora = User.objects.get(email="dora@bakery.example")
    (belonging,) = memberships_of(dora.pk)
    assert (belonging.name, belonging.role) == ("Dora's Bakery", Role.OWNER)


def test_signing_up_without_a_business_is_told_and_keeps_what_was_typed(visitor: Client) -> None:
    page = visitor.post("/accounts/signup/", {**SIGN_UP, "business_name": "  "}).content.decode()
    assert "Please enter the name of your business." in page
    assert 'value="dora@bakery.example"' in page
    assert not User.objects.filter(email="dora@bakery.example").exists()


def test_who_was_invited_need_not_name_a_business(visitor: Client, acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.pk):
        people.invite(tenant=acme, email="dora@bakery.example", role=Role.DEVELOPER, invited_by=alice)
    (link,) = re.findall(r"/invitations/\S+", mail.outbox[0].body)
    assert "Join Acme" in visitor.get(link).content.decode()
    visitor.post("/accounts/signup/", SIGN_UP)
    assert "Join Acme" in visitor.get(link).content.decode()
    assert visitor.post(link).status_code == 302
    (belonging,) = memberships_of(User.objects.get(email="dora@bakery.example").pk)
    assert (belonging.slug, belonging.role) == ("acme", Role.DEVELOPER)


def test_an_unknown_invitation_is_told(visitor: Client) -> None:
    answer = visitor.get("/invitations/no-such-secret/")
    assert answer.status_code == 404
    assert "This invitation is not known." in answer.content.decode()
