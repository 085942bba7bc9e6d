"""A tenant's first page: its figures, what goes on now, and what its plan says."""

from __future__ import annotations

import datetime
import re
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from billing.models import Subscription, Usage
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests import factories as people
from tests.web import factories
from tests.web.pages import words
from voice.models import Call
from web.figures import SPANS


def tile(page: Any, name: str) -> str:
    found = re.search(rf'<div class="tile"><span class="tile__name">{re.escape(name)}</span>(.*?)</div>', page, re.S)
    assert found, f"There is no tile {name}."
    return words(found[1]).strip()


@pytest.mark.parametrize("span", ["24h", "7d", "30d"])
def test_the_figures_are_those_of_the_calls(span: str, client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        agent = factories.create_agent()
        for _ in range(3):
            factories.create_call(agent)
        factories.create_call(agent, end_reason="worker_lost")
    page = client_of(bob).get(f"/t/acme/?span={span}").content.decode()
    assert tile(page, "Calls") == "4 1 went wrong"
    assert tile(page, "Minutes") == "2.8 8 turns"
    assert "$0.001714" in tile(page, "Cost")
    assert re.search(r"(4[23]\d|430) ms", tile(page, "First audio, p50"))
    assert re.search(r"(8[89]\d|9\d\d) ms", tile(page, "Turn, p95"))


def test_another_tenants_calls_do_not_count(client_of: Any, acme: Tenant, rival: Tenant, bob: User) -> None:
    with enter_tenant(rival.id):
        factories.create_call(factories.create_agent())
    page = client_of(bob).get("/t/acme/").content.decode()
    assert tile(page, "Calls") == "0 none yet"


def test_live_calls_stand_on_the_page_and_in_its_live_part(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(factories.create_agent(name="Night desk"), is_live=True)
    for address in ("/t/acme/", "/t/acme/calls/live/"):
        page = client_of(bob).get(address).content.decode()
        assert "1 of 25 lines in use" in words(page)
        assert f"/t/acme/calls/{call.pk}/" in page
    assert "<html" not in page


def test_the_boots_of_the_last_day_are_told_by_kind(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        agent = factories.create_agent()
        factories.create_call(agent, boot="cold", ready_ms=3600)
        factories.create_call(agent)
    page = words(client_of(bob).get("/t/acme/").content.decode())
    assert re.search(r"restored 1 314 ms 314 ms", page)
    assert re.search(r"cold 1 3\.60 s 3\.60 s", page)


def test_pools_stand_with_their_warm_containers(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        factories.create_ready_pool(sessions_per_container=4)
    page = words(client_of(bob).get("/t/acme/").content.decode())
    assert "Cascade · This machine ready 1 2 of 4" in page


def test_the_plans_minutes_are_told(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        Usage.objects.create(kind="call_seconds", quantity=90 * 60, occurred_at=timezone.now(), idempotency_key="u")
    assert re.search(r"90 of [\d,]+ minutes used", words(client_of(bob).get("/t/acme/").content.decode()))


def test_a_trial_says_when_it_ends_and_then_that_calls_are_refused(client_of: Any, alice: User) -> None:
    tenant = people.create_tenant(name="Fresh", owner=alice, plan="trial")
    page = words(client_of(alice).get("/t/fresh/").content.decode())
    assert re.search(r"The trial ends on \d+ \w+, in 13 days", page)
    assert "Make the first agent" in page
    with enter_tenant(tenant.id):
        Subscription.objects.update(trial_ends_at=timezone.now() - datetime.timedelta(days=1))
    page = words(client_of(alice).get("/t/fresh/").content.decode())
    assert "The trial ended on" in page and "New calls are refused." in page


def test_a_suspended_tenant_reads_and_changes_nothing(client_of: Any, acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        agent = factories.create_agent()
        acme.suspend("The invoice of May is open.")
    client = client_of(alice)
    page = client.get("/t/acme/agents/front-desk/").content.decode()
    assert "This account is suspended: The invoice of May is open." in page
    assert "Edit the draft" not in page
    answer = client.post("/t/acme/agents/front-desk/draft/", {"name": "Other"})
    assert answer.status_code == 403
    assert "suspended" in answer.content.decode()
    with enter_tenant(acme.id):
        agent.refresh_from_db()
        assert agent.name == "Front desk"


def test_days_are_the_tenants_own(client_of: Any, bob: User, alice: User) -> None:
    """Half past midnight in Auckland is the day before in UTC."""
    tenant = people.create_tenant(name="Kiwi", owner=alice, time_zone="Pacific/Auckland")
    local_midnight = timezone.now().astimezone(ZoneInfo("Pacific/Auckland")).replace(hour=0, minute=1, second=0)
    with enter_tenant(tenant.id):
        factories.create_call(factories.create_agent(), started_at=local_midnight)
        call = Call.objects.get()
    page = client_of(alice).get("/t/kiwi/?span=7d").content.decode()
    assert tile(page, "Calls").startswith("1")
    page = client_of(alice).get(f"/t/kiwi/calls/{call.pk}/").content.decode()
    assert f"{local_midnight:%-d %B}, 00:01" in page


def test_a_day_with_25_hours_has_each_of_them_once() -> None:
    now = datetime.datetime(2026, 11, 1, 12, 30, tzinfo=ZoneInfo("America/New_York"))
    hours = SPANS["24h"].periods(now)
    assert len({hour.astimezone(datetime.UTC) for hour in hours}) == 24
    assert hours[-1].hour == 12


def test_an_unknown_span_shows_the_last_day(client_of: Any, acme: Tenant, bob: User) -> None:
    page = client_of(bob).get("/t/acme/?span=forever")
    assert page.status_code == 200
    assert 'aria-current="page">24 hours' in page.content.decode()
