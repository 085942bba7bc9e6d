"""Who pays for a container's seconds: exact to the nano-dollar, whatever the sessions."""

from __future__ import annotations

import datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning import prices
from provisioning.backends.contract import Rates
from provisioning.costs import (
    Interval,
    billed_corrections,
    cost_of,
    provisional_cost,
    settle,
    shared_milliseconds,
    split_exactly,
)

RATE = 7_531
TIMES_MS = st.integers(-5_000, 100_000)
INTERVALS = st.builds(Interval, TIMES_MS, TIMES_MS)
SESSIONS = st.dictionaries(st.integers(0, 40), INTERVALS, max_size=12)


@given(
    sessions=SESSIONS,
    ready_ms=st.integers(0, 90_000),
    life_ms=st.integers(0, 90_000),
    cuts=st.lists(st.integers(0, 90_000), max_size=4),
    rate=st.integers(0, 2_000_000),
)
def test_any_sessions_pay_exactly_for_the_containers_life(
    sessions: dict[int, Interval], ready_ms: int, life_ms: int, cuts: list[int], rate: int
) -> None:
    edges = sorted({0, life_ms, *(cut for cut in cuts if cut < life_ms)})
    settlements = [
        settle(stretch=Interval(*edge), ready_ms=ready_ms, sessions=sessions, rate_nano_dollars_per_second=rate)
        for edge in zip(edges, edges[1:], strict=False)
    ]
    assert sum(settlement.total for settlement in settlements) == cost_of(life_ms, rate)
    for settlement in settlements:
        for part in (settlement.active, settlement.cold_start, settlement.idle):
            assert min(part.values(), default=0) >= 0
            assert set(part) <= set(sessions)


@given(sessions=SESSIONS)
def test_shares_of_time_add_up_to_the_time_in_which_anybody_was_there(sessions: dict[int, Interval]) -> None:
    moments = {ms for held in sessions.values() for ms in range(held.start_ms, held.end_ms)}
    assert sum(shared_milliseconds(sessions).values()) == len(moments)


@given(total=st.integers(0, 10**12), weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_a_split_adds_up_and_each_part_is_off_by_less_than_one(total: int, weights: list[int]) -> None:
    parts = split_exactly(total, weights)
    assert sum(parts) == total
    if whole := sum(weights):
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - Fraction(total * weight, whole)) < 1


def test_a_split_among_nobody_is_refused() -> None:
    for total, weights in ((1, []), (-1, [1]), (1, [2, -1])):
        with pytest.raises(ValueError, match="whole amount"):
            split_exactly(total, weights)


def test_a_session_alone_pays_for_its_seconds() -> None:
    assert provisional_cost(Interval(0, 10_000), [], rate_nano_dollars_per_second=6_781) == 67_810


def test_a_session_pays_half_while_another_is_there() -> None:
    others = [Interval(-20_000, 5_000), Interval(8_000, 30_000)]
    assert provisional_cost(Interval(0, 10_000), others, rate_nano_dollars_per_second=1_000) == 3_000 + 3_500


def test_idle_time_and_cold_start_go_to_the_calls_by_their_active_time() -> None:
    settlement = settle(
        stretch=Interval(0, 100_000),
        ready_ms=10_000,
        sessions={"long": Interval(20_000, 50_000), "short": Interval(50_000, 60_000)},
        rate_nano_dollars_per_second=1_000,
    )
    assert settlement.active == {"long": 30_000, "short": 10_000}
    assert settlement.idle == {"long": 37_500, "short": 12_500}
    assert settlement.cold_start == {"long": 7_500, "short": 2_500}


def test_a_container_that_served_nobody_is_paid_by_its_pool() -> None:
    settlement = settle(stretch=Interval(0, 5_000), ready_ms=2_000, sessions={}, rate_nano_dollars_per_second=1_000)
    assert (settlement.unserved_cold_start, settlement.unserved_idle) == (2_000, 3_000)


def test_prices_are_summed_with_the_regions_surcharge_and_rounded_once() -> None:
    assert prices.rate_of(gpu="L4", cpu_millicores=2000, memory_mib=4096, region="us-east") == round(
        (222_000 + 2 * 13_100 + 4 * 2_220) * 1.15
    )
    assert prices.rate_of(gpu="", cpu_millicores=1000, memory_mib=1024, region="local") == 6_800


def test_a_day_before_the_first_table_has_its_prices() -> None:
    early = prices.rate_of(
        gpu="T4", cpu_millicores=0, memory_mib=0, region="anywhere", at_date=datetime.date(2020, 1, 1)
    )
    assert early == 164_000


def test_an_unknown_gpu_has_no_price() -> None:
    with pytest.raises(LookupError, match="Z9"):
        prices.rate_of(gpu="Z9", cpu_millicores=0, memory_mib=0, region="us-east")


PARTS = st.sampled_from(["active", "idle", "cold", "pool"])


@given(
    estimated=st.dictionaries(PARTS, st.integers(-(10**6), 10**12), max_size=4),
    before=st.dictionaries(PARTS, st.integers(-(10**9), 10**9), max_size=4),
    billed=st.integers(-(10**9), 10**12),
)
def test_what_was_spent_and_its_corrections_are_what_was_billed(
    estimated: dict[str, int], before: dict[str, int], billed: int
) -> None:
    spent = {part: estimated.get(part, 0) + before.get(part, 0) for part in {**estimated, **before}}
    corrections = billed_corrections(spent, estimated=estimated, billed=billed, nobody="pool")
    assert sum(spent.values()) + sum(corrections.values()) == billed
    again = {part: spent.get(part, 0) + corrections[part] for part in corrections}
    repeated = billed_corrections(again, estimated=estimated, billed=billed, nobody="pool")
    assert set(repeated.values()) <= {0}


def test_each_part_is_scaled_to_the_bill() -> None:
    estimated = {"talked": 600, "waited": 300, "started": 100}
    corrections = billed_corrections(estimated, estimated=estimated, billed=1_500, nobody="pool")
    assert corrections == {"talked": 300, "waited": 150, "started": 50}


def test_a_bill_of_which_nothing_was_estimated_goes_to_the_pool() -> None:
    assert billed_corrections({}, estimated={}, billed=7, nobody="pool") == {"pool": 7}
    assert billed_corrections({"talked": 0}, estimated={"talked": 0}, billed=7, nobody="pool") == {
        "talked": 0,
        "pool": 7,
    }


def test_the_providers_prices_come_before_the_table() -> None:
    asked = {"gpu": "L4", "cpu_millicores": 2000, "memory_mib": 4096, "region": "us-east"}
    told = Rates(gpu={"L4": 200_000}, cpu_core=10_000)
    assert prices.rate_of(**asked, told=told) == round((200_000 + 2 * 10_000 + 4 * 2_220) * 1.15)
    assert prices.rate_of(**asked, told=Rates()) == prices.rate_of(**asked)
