"""Own GPUs against managed services: the arithmetic, and the page on which visitors do it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from hypothesis import assume, given
from hypothesis import strategies as st

from provisioning.models import Container, CostEntry
from provisioning.prices import gpu_names
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.provisioning.factories import build_deployment, build_pool
from tests.web.test_public import create_demo_agent, create_demo_call
from voice.days import rebuild_days
from web.break_even import NotPossible, Situation, prices

DOLLAR = 1_000_000_000

ALL_DAY = Situation(
    minutes=100_000,
    peak_calls=10,
    open_hours_a_week=168,
    sessions_per_container=2,
    warm_containers=1,
    fill_percent=50,
    agent_percent=50,
    rate=1_000_000,  # $3.60 an hour
)
SITUATIONS = st.builds(
    Situation,
    minutes=st.integers(1, 200_000),
    peak_calls=st.integers(1, 200),
    open_hours_a_week=st.integers(1, 168),
    sessions_per_container=st.integers(1, 32),
    warm_containers=st.integers(0, 20),
    fill_percent=st.integers(1, 100),
    agent_percent=st.integers(1, 99),
    rate=st.integers(1, 3_000_000),
)


def test_a_line_that_is_always_open_is_open_for_730_hours_a_month() -> None:
    assert ALL_DAY.open_seconds == 730 * 3600


def test_containers_follow_from_calls_places_and_how_full_they_are() -> None:
    # 100,000 minutes in 730 hours are 2.283 calls at a time; of two places one is taken: as many containers.
    assert float(ALL_DAY.containers()) == pytest.approx(100_000 / 60 / 730)
    assert ALL_DAY.own_cost() == pytest.approx(100_000 / 60 * 3.6 * DOLLAR)
    assert dataclasses.replace(ALL_DAY, minutes=1).own_cost() == 730 * 3600 * 1_000_000  # the one kept warm


def test_more_minutes_than_the_peak_allows_are_refused_in_a_sentence() -> None:
    with pytest.raises(NotPossible, match="2.3 calls at a time on average, which is more than your peak of 1"):
        dataclasses.replace(ALL_DAY, peak_calls=1).check()


@given(situation=SITUATIONS, managed=st.integers(1, DOLLAR))
def test_break_even_is_the_first_minute_from_which_managed_costs_more(situation: Situation, managed: int) -> None:
    assume(situation.minutes_at_peak > 1)
    first = situation.break_even_minutes(managed)
    if first is None:
        most = situation.minutes_at_peak
        assert situation.own_cost(most) >= managed * most
    else:
        assert situation.own_cost(first) <= managed * first
        assert first == 1 or situation.own_cost(first - 1) > managed * (first - 1)


def test_an_offers_minute_is_the_sum_of_its_rows() -> None:
    realtime = prices().offers["realtime"]
    # 0.6 thousand tokens of half a minute heard, 1.2 of half a minute spoken, and what was said before.
    assert realtime.a_minute(50) == 32_000_000 * 3 // 10 + 64_000_000 * 6 // 10 + 400_000 * 8
    assert realtime.a_minute(90) > realtime.a_minute(10)


def test_the_file_of_prices_names_every_gpu_and_is_dated() -> None:
    assert set(prices().sessions) == set(gpu_names())
    assert prices().read_date.year >= 2026


def test_a_visitor_compares_and_reads_the_arithmetic(visitor: Client) -> None:
    page = visitor.get("/break-even/").content.decode()
    assert "Break-even" in page and "1 July 2026" in page and "is assumed" in page
    page = visitor.get("/break-even/?gpu=L4&minutes=500&warm_containers=0&offer=realtime").content.decode()
    assert "OpenAI Realtime" in page and "caller’s speech" in page


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("minutes=0", "greater than or equal to 1"),
        ("minutes=x", "Enter a whole number"),
        ("gpu=H900", "not one of the available choices"),
        ("peak_calls=1&minutes=20000", "more than your peak of 1"),
    ],
)
def test_what_cannot_be_is_told_beside_what_was_entered(visitor: Client, query: str, sentence: str) -> None:
    answer = visitor.get(f"/break-even/?{query}")
    assert answer.status_code == 200
    page = answer.content.decode()
    assert sentence in page and "A month</th>" not in page


def test_what_this_installation_measured_takes_the_place_of_what_is_assumed(visitor: Client, house: Tenant) -> None:
    agent = create_demo_agent(house)
    create_demo_call(house, agent, status="ended")
    deployment = build_deployment(build_pool(house, sessions_per_container=2))
    at = timezone.now()
    with enter_tenant(house.id):
        Container.objects.create(
            deployment=deployment, name="c-1", state="stopped", started_at=at - timedelta(hours=2), stopped_at=at
        )
        CostEntry.objects.create(
            container="c-1", part="active", milliseconds=3_600_000, nano_dollars=1, occurred_at=at, idempotency_key="1"
        )
        rebuild_days()
    cache.clear()
    page = visitor.get("/break-even/").content.decode()
    assert "calls take 25 % of the places" in page and 'value="25"' in page
