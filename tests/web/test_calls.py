"""The list of calls with its filters, and a call's page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from provisioning.models import CostEntry
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.web import factories
from tests.web.pages import words
from voice.models import Call

HTMX = {"HX-Request": "true"}


def listed(client: Any, query: str = "") -> list[str]:
    page = client.get(f"/t/acme/calls/{query}").content.decode()
    return re.findall(r'<a class="row" href="/t/acme/calls/([0-9a-f-]{36})/"', page)


@pytest.fixture
def calls(acme: Tenant) -> dict[str, Call]:
    with enter_tenant(acme.id):
        desk, night = factories.create_agent(), factories.create_agent(name="Night desk")
        return {
            "live": factories.create_call(desk, is_live=True, minutes_ago=1),
            "well": factories.create_call(desk, minutes_ago=2, boot="warm", channel="api"),
            "lost": factories.create_call(night, minutes_ago=3, end_reason="worker_lost"),
            "slow": factories.create_call(desk, minutes_ago=4, turn_ms=(700, 1900)),
            "late": factories.create_call(desk, minutes_ago=5, boot="cold", ready_ms=3600),
            "old": factories.create_call(desk, minutes_ago=60 * 24 * 3),
        }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["live", "well", "lost", "slow", "late", "old"]),
        ("?agent=night-desk", ["lost"]),
        ("?outcome=live", ["live"]),
        ("?outcome=well", ["well", "slow", "late", "old"]),
        ("?outcome=badly", ["lost"]),
        ("?outcome=worker_lost", ["lost"]),
        ("?outcome=no_worker", []),
        ("?channel=api", ["well"]),
        ("?boot=cold", ["late"]),
        ("?slow=on", ["slow", "late"]),
        ("?slow=on&boot=restored", ["slow"]),
    ],
)
def test_filters_choose_calls(
    query: str, expected: list[str], client_of: Any, calls: dict[str, Call], bob: User
) -> None:
    assert listed(client_of(bob), query) == [str(calls[name].pk) for name in expected]


def test_dates_choose_calls(client_of: Any, calls: dict[str, Call], bob: User) -> None:
    day = calls["old"].started_at.date()
    assert listed(client_of(bob), f"?since={day}&until={day}") == [str(calls["old"].pk)]
    assert str(calls["old"].pk) not in listed(client_of(bob), f"?since={calls['late'].started_at.date()}")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?since=2026-02-31", "Enter a valid date."),
        ("?since=2026-03-02&until=2026-03-01", "This is before the first day."),
        ("?agent=unknown", "Select a valid choice."),
    ],
)
def test_a_filter_that_is_not_understood_is_told_beside_what_was_typed(
    query: str, sentence: str, client_of: Any, calls: dict[str, Call], bob: User
) -> None:
    page = client_of(bob).get(f"/t/acme/calls/{query}")
    assert page.status_code == 200
    assert sentence in page.content.decode()
    for typed in re.findall(r"\d{4}-\d\d-\d\d", query):
        assert f'value="{typed}"' in page.content.decode()


def test_the_live_rows_are_fetched_as_a_part_of_the_page(client_of: Any, calls: dict[str, Call], bob: User) -> None:
    answer = client_of(bob).get("/t/acme/calls/?outcome=live", headers=HTMX)
    page = answer.content.decode()
    assert "<html" not in page and str(calls["live"].pk) in page
    assert 'hx-get="/t/acme/calls/?outcome=live"' in page
    assert "HX-Request" in answer.headers["Vary"]


def test_going_back_gets_the_whole_page(client_of: Any, calls: dict[str, Call], bob: User) -> None:
    page = client_of(bob).get("/t/acme/calls/", headers={**HTMX, "HX-History-Restore-Request": "true"})
    assert "<html" in page.content.decode()


def test_long_lists_have_pages_that_keep_the_filters(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        agent = factories.create_agent()
        Call.objects.bulk_create(
            Call(tenant=acme, agent=agent, version=agent.live_version, status="ended", channel="api") for _ in range(60)
        )
    client = client_of(bob)
    first, second = listed(client, "?channel=api"), listed(client, "?channel=api&page=2")
    assert (len(first), len(second), len({*first, *second})) == (50, 10, 60)
    assert "?channel=api&amp;page=2" in client.get("/t/acme/calls/?channel=api").content.decode()
    assert len(listed(client, "?channel=api&page=nonsense")) == 50


def test_a_call_shows_all_that_is_known_of_it(client_of: Any, calls: dict[str, Call], bob: User) -> None:
    page = client_of(bob).get(f"/t/acme/calls/{calls['slow'].pk}/").content.decode()
    said = words(page)
    assert "The agent said goodbye" in said
    assert "/t/acme/agents/front-desk/versions/1/" in page
    # The waterfall: its steps add up, with the remainder named.
    for step in ("Setup", "9 ms", "Reserve", "262 ms", "Connect", "41 ms", "Remainder", "2 ms", "Ready", "314 ms"):
        assert step in said
    assert "restored from a snapshot, started in 174 ms" in said
    assert re.search(r"First audio the agent is heard\s+430 ms", said)
    # The turns, with their parts.
    assert "Caller's words 2." in said.replace("&#x27;", "'") and "Agent's words 2." in said.replace("&#x27;", "'")
    assert "end of turn 300 ms + speech to text 150 ms + thinking 20 ms + voice 100 ms + remainder 1.33 s" in said
    assert "is-slow" in page
    # The tool, with what went in and what came out.
    assert "Book appointment" in said and "slot_taken" in said and "&quot;service&quot;: &quot;haircut&quot;" in said
    # The cost, to the nano-dollar.
    assert "$0.000428" in said and "428,400 nano-dollars" in said
    assert "42.000 s at 10,200 nano-dollars a second: 428,400 nano-dollars" in said


def test_a_call_shows_what_the_provider_billed_beside_the_estimate(
    client_of: Any, calls: dict[str, Call], bob: User
) -> None:
    call = calls["slow"]
    address = f"/t/acme/calls/{call.pk}/"
    assert "Total provisional" in words(client_of(bob).get(address).content.decode())
    with enter_tenant(call.tenant_id):
        CostEntry.objects.create(
            call_id=call.pk,
            part="active",
            source="provider",
            nano_dollars=-8_400,
            occurred_at=call.started_at,
            idempotency_key="billed",
        )
    said = words(client_of(bob).get(address).content.decode())
    assert "billed less than estimated: 8,400 nano-dollars" in said
    assert "Total as billed $0.000420" in said


def test_a_live_call_follows_itself(client_of: Any, calls: dict[str, Call], bob: User) -> None:
    call = calls["live"]
    client = client_of(bob)
    page = client.get(f"/t/acme/calls/{call.pk}/").content.decode()
    assert f"call-changed-{call.pk} from:body" in page and 'data-live="/t/acme/live/"' in page
    with enter_tenant(call.tenant_id):
        Call.objects.update(status="ended", end_reason="caller_hung_up", ended_at=call.started_at)
    part = client.get(f"/t/acme/calls/{call.pk}/", headers=HTMX).content.decode()
    assert "<html" not in part and "The caller hung up" in part
    assert "call-changed" not in part


def test_a_call_that_got_no_worker_says_so(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        agent = factories.create_agent()
        call = Call.objects.create(
            agent=agent, version=agent.live_version, status="ended", end_reason="no_worker", setup_ms=8
        )
    said = words(client_of(bob).get(f"/t/acme/calls/{call.pk}/").content.decode())
    assert "No worker could be reached" in said
    assert "it cost nothing" in said and "The call ended before anybody spoke." in said


def test_a_rivals_call_is_not_found_under_ones_own_address(
    client_of: Any, calls: dict[str, Call], rival: Tenant, charlie: User
) -> None:
    assert client_of(charlie).get(f"/t/rival/calls/{calls['well'].pk}/").status_code == 404


def test_a_call_that_went_on_with_another_worker_says_so(client_of: Any, acme: Tenant, bob: User) -> None:
    with enter_tenant(acme.id):
        call = factories.create_call(factories.create_agent(), minutes_ago=1)
        Call.objects.filter(pk=call.pk).update(failovers=1, resumes=2, longest_gap_ms=1840)
        call.sessions.update(gap_ms=640)
    page = words(client_of(bob).get(f"/t/acme/calls/{call.pk}/").content.decode())
    assert "heard 640 ms after the one before was lost" in page
    assert "1 worker lost, the caller came back 2 times; the longest lasted 1.84 s" in page


def test_a_call_tells_where_it_was_held_and_where_not(client_of: Any, acme: Tenant, bob: User) -> None:
    refused = [
        {"region": "eu-west", "is_own": True, "waited_ms": 15_003, "why": "worker_timed_out"},
        {"region": "ca-central", "is_own": False, "waited_ms": 12, "why": "worker_at_capacity"},
    ]
    with enter_tenant(acme.id):
        agent = factories.create_agent()
        call = factories.create_call(agent, region="us-east", caller_region="eu-west", refused_places=refused)
    said = words(client_of(bob).get(f"/t/acme/calls/{call.pk}/").content.decode())
    assert "Region United States, East the caller is near Europe, West" in said
    assert (
        "Europe, West: worker timed out after 15.00 s Canada, Central, shared: worker at capacity after 12 ms" in said
    )
