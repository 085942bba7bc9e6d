"""The frame around the pages: where one is, what one's role may open, and what a refusal says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agents.models import Agent
from tenants.models import Role, Tenant, User
from tenants.scope import enter_tenant
from tests import factories as people
from tests.web.pages import words


def marked(page: str) -> list[str]:
    """Return the links of the sidebar that say that one is here."""
    sidebar = page[page.index('id="sidebar"') : page.index("sidebar__foot")]
    return [words(link).strip() for link in re.findall(r'<a [^>]*aria-current="page"[^>]*>.*?</a>', sidebar, re.S)]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("", "Overview"),
        ("calls/", "Calls"),
        ("agents/", "Agents"),
        ("agents/front-desk/draft/", "Agents"),
        ("agents/front-desk/versions/1/", "Agents"),
        ("calendar/hours/", "Calendar"),
        ("calendar/appointments/new/", "Calendar"),
        ("pools/new/", "Pools"),
        ("members/", "Members"),
        ("business/", "Business"),
        ("api-keys/", "API keys"),
        ("audit/", "Audit trail"),
    ],
)
def test_the_sidebar_says_where_one_is(address: str, name: str, client_of: Any, agent: Agent, alice: User) -> None:
    assert marked(client_of(alice).get(f"/t/acme/{address}").content.decode()) == [name]


def test_the_operators_sidebar_says_so_too(client_of: Any, olivia: User) -> None:
    assert marked(client_of(olivia).get("/fleet/").content.decode()) == ["Fleet"]


def test_what_a_role_may_not_open_is_not_offered(client_of: Any, acme: Tenant, alice: User, bob: User) -> None:
    owners, viewers = (client_of(user).get("/t/acme/").content.decode() for user in (alice, bob))
    for address in ("/t/acme/api-keys/", "/t/acme/audit/"):
        assert address in owners and address not in viewers


@pytest.mark.parametrize(
    "address",
    ["agents/new/", "agents/front-desk/draft/", "pools/new/", "calendar/appointments/new/", "calendar/services/new/"],
)
def test_a_refusal_says_which_role_it_takes(address: str, client_of: Any, agent: Agent, bob: User) -> None:
    answer = client_of(bob).get(f"/t/acme/{address}")
    assert answer.status_code == 403
    assert "This needs the role Developer; yours is Viewer." in words(answer.content.decode())


def test_who_belongs_to_no_tenant_is_told_so(client_of: Any) -> None:
    answer = client_of(people.create_user(email="nora@nowhere.example")).get("/dashboard/")
    assert answer.status_code == 200
    assert "<h1" in answer.content.decode()


def test_a_suspended_tenants_owner_still_finds_its_keys_and_audit_trail(
    client_of: Any, acme: Tenant, alice: User
) -> None:
    with enter_tenant(acme.id):
        acme.suspend("Unpaid")
    client = client_of(alice)
    page = client.get("/t/acme/").content.decode()
    assert "/t/acme/audit/" in page
    assert client.get("/t/acme/audit/").status_code == 200


@pytest.mark.parametrize("role", [Role.VIEWER, Role.DEVELOPER, Role.OWNER])
def test_no_button_is_without_words(role: Role, client_of: Any, agent: Agent, acme: Tenant) -> None:
    person = people.create_user(email="petra@acme.example")
    people.add_member(tenant=acme, user=person, role=role)
    client = client_of(person)
    for address in (
        "",
        "agents/",
        "agents/front-desk/",
        "calls/",
        "pools/",
        "calendar/",
        "calendar/hours/",
        "members/",
    ):
        page = client.get(f"/t/acme/{address}").content.decode()
        for tag, inside in re.findall(r'<((?:a|button) [^>]*class="button[^>]*)>(.*?)</(?:a|button)>', page, re.S):
            assert words(inside).strip() or "aria-label=" in tag, (address, tag)
