"""Who may open which page: every address under /t/ and /fleet/ is listed here with the least role it takes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tenants.access import access_to
from tenants.models import Role, Tenant, User
from tests import factories

NOBODYS = uuid.UUID(int=7)
ARGUMENTS: dict[str, Any] = {
    "call_id": NOBODYS,
    "pool_id": NOBODYS,
    "container_id": NOBODYS,
    "appointment_id": NOBODYS,
    "closure_id": NOBODYS,
    "service_id": NOBODYS,
    "left_id": NOBODYS,
    "membership_id": NOBODYS,
    "invitation_id": NOBODYS,
    "key_id": NOBODYS,
    "number_id": NOBODYS,
    "entry_id": NOBODYS,
    "account_id": NOBODYS,
    "backend": "nowhere",
    "carrier": "nobodys",
    "tenant_id": NOBODYS,
    "agent_slug": "nobodys",
    "plan_slug": "nobodys",
    "number": 1,
    "kind": "message",
    "affiliate_id": 0,
    "month_date": "2026-01-01",
    "currency": "usd",
}

LEAST_ROLES = {
    "overview": Role.VIEWER,
    "live_calls": Role.VIEWER,
    "calls": Role.VIEWER,
    "call": Role.VIEWER,
    "call_recording": Role.VIEWER,
    "agents": Role.VIEWER,
    "agent": Role.VIEWER,
    "agent_versions": Role.VIEWER,
    "agent_version": Role.VIEWER,
    "agent_new": Role.DEVELOPER,
    "agent_edit": Role.DEVELOPER,
    "agent_access": Role.DEVELOPER,
    "agent_ticket": Role.DEVELOPER,
    "agent_roll_back": Role.DEVELOPER,
    "agent_archive": Role.ADMIN,
    "pools": Role.VIEWER,
    "pool": Role.VIEWER,
    "pool_new": Role.DEVELOPER,
    "pool_change": Role.DEVELOPER,
    "pool_hours_change": Role.DEVELOPER,
    "pools_region_change": Role.DEVELOPER,
    "pool_switch": Role.DEVELOPER,
    "container_log": Role.DEVELOPER,
    "calendar": Role.VIEWER,
    "appointment": Role.VIEWER,
    "hours": Role.VIEWER,
    "inbox": Role.VIEWER,
    "contacts": Role.VIEWER,
    "appointment_new": Role.DEVELOPER,
    "appointment_move": Role.DEVELOPER,
    "appointment_cancel": Role.DEVELOPER,
    "hours_change": Role.DEVELOPER,
    "closure_new": Role.DEVELOPER,
    "closure_remove": Role.DEVELOPER,
    "service_new": Role.DEVELOPER,
    "service": Role.DEVELOPER,
    "left_handled": Role.DEVELOPER,
    "telephone": Role.VIEWER,
    "carrier_account": Role.ADMIN,
    "carrier_account_remove": Role.ADMIN,
    "number_new": Role.DEVELOPER,
    "number": Role.DEVELOPER,
    "number_remove": Role.DEVELOPER,
    "calling_out": Role.VIEWER,
    "call_place": Role.DEVELOPER,
    "outbound_agree": Role.ADMIN,
    "outbound_withdraw": Role.ADMIN,
    "do_not_call_add": Role.DEVELOPER,
    "do_not_call_remove": Role.DEVELOPER,
    "billing": Role.VIEWER,
    "billing_next": Role.VIEWER,
    "billing_subscribe": Role.ADMIN,
    "billing_change": Role.ADMIN,
    "billing_cancel": Role.ADMIN,
    "billing_portal": Role.ADMIN,
    "members": Role.VIEWER,
    "invite_member": Role.ADMIN,
    "change_member": Role.ADMIN,
    "withdraw_invitation": Role.ADMIN,
    "api_keys": Role.ADMIN,
    "revoke_api_key": Role.ADMIN,
    "service_keys": Role.ADMIN,
    "remove_service_key": Role.ADMIN,
    "business": Role.ADMIN,
    "limits": Role.OWNER,
    "own_account_change": Role.ADMIN,
    "own_account_remove": Role.ADMIN,
    "audit": Role.ADMIN,
}
OPERATORS = {
    "fleet",
    "fleet_affiliates",
    "fleet_live_calls",
    "fleet_margin",
    "fleet_numbers",
    "fleet_payout",
    "number_standing",
    "tenant_standing",
}


def pages_under(resolver: URLResolver, *wanted: str) -> Iterator[tuple[str, URLPattern, set[str]]]:
    """Yield name, pattern and names of arguments of every page."""
    for pattern in resolver.url_patterns:
        arguments = {*wanted, *pattern.pattern.regex.groupindex}
        if isinstance(pattern, URLResolver):
            yield from pages_under(pattern, *arguments)
        else:
            yield str(pattern.name), pattern, arguments


WEB = next(each for each in get_resolver().url_patterns if getattr(each, "namespace", None) == "web")
PAGES = {name: pattern for name, pattern, _ in pages_under(WEB)}
ROUTES = {name: arguments for name, _, arguments in pages_under(WEB)}
OF_TENANTS = [name for name, pattern in PAGES.items() if access_to(pattern.callback, name).kind == "tenant"]
OF_OPERATORS = [name for name, pattern in PAGES.items() if access_to(pattern.callback, name).kind == "operator"]


def address_of(name: str, **known: object) -> str:
    """Return the address of a page, with arguments that name nothing where they are not given."""
    given = {**ARGUMENTS, **known}
    wanted = ROUTES[name]
    return reverse(f"web:{name}", kwargs={key: given[key] for key in given if key in wanted})


def asked(client: Client, address: str) -> set[int]:
    return {client.get(address).status_code, client.post(address).status_code}


def test_every_page_of_a_tenant_is_listed_here_with_its_role() -> None:
    assert {name: access_to(PAGES[name].callback, name).role for name in OF_TENANTS} == LEAST_ROLES


def test_every_page_of_the_operator_is_listed_here() -> None:
    assert set(OF_OPERATORS) == OPERATORS


@pytest.mark.parametrize("name", OF_TENANTS)
def test_an_outsider_finds_no_page_of_the_tenant(
    name: str, client_of: Any, acme: Tenant, rival: Tenant, charlie: User
) -> None:
    assert asked(client_of(charlie), address_of(name, tenant_slug=acme.slug)) == {404}


@pytest.mark.parametrize("name", [*OF_TENANTS, *OF_OPERATORS])
def test_who_has_not_signed_in_is_asked_to(name: str, visitor: Client, acme: Tenant) -> None:
    answer = visitor.get(address_of(name, tenant_slug=acme.slug))
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("name", [name for name, role in LEAST_ROLES.items() if role is not Role.VIEWER])
def test_a_role_below_the_least_is_refused(name: str, client_of: Any, acme: Tenant, bob: User) -> None:
    client = client_of(bob)
    assert asked(client, address_of(name, tenant_slug=acme.slug)) == {403}
    if LEAST_ROLES[name].includes(Role.ADMIN):
        dora = factories.create_user(email="dora@acme.example")
        factories.add_member(tenant=acme, user=dora, role=Role.DEVELOPER)
        assert asked(client_of(dora), address_of(name, tenant_slug=acme.slug)) == {403}


@pytest.mark.parametrize("name", OF_OPERATORS)
def test_an_owner_finds_no_page_of_the_operator(name: str, client_of: Any, acme: Tenant, alice: User) -> None:
    assert asked(client_of(alice), address_of(name)) == {404}


@pytest.mark.parametrize("name", [name for name in OF_TENANTS if ROUTES[name] > {"tenant_slug"}])
def test_what_names_nothing_of_the_tenants_is_not_found(name: str, client_of: Any, acme: Tenant, alice: User) -> None:
    answers = asked(client_of(alice), address_of(name, tenant_slug=acme.slug))
    assert answers <= {404, 405} and 404 in answers
