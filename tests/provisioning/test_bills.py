"""The provider's bill in the ledger: each hour adds up to what was billed, and calls carry their share of it."""

from __future__ import annotations

import datetime
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioning.backends.contract import AccountRef, BilledCost
from provisioning.correcting import correct_hours
from provisioning.costs import cost_of
from provisioning.importing import Imported, keep_bill
from provisioning.models import BilledHour, Container, CostEntry, Deployment
from provisioning.settling import settle_containers
from tenants.models import Tenant
from tenants.scope import enter_operator, enter_tenant
from tests.provisioning.factories import STARTED_AT, build_active_cost, build_container, build_deployment, build_pool
from tests.provisioning.ledger import spent_by_part

HOUR = datetime.timedelta(hours=1)
NEXT_DAY = STARTED_AT + datetime.timedelta(days=1)
HOURS = 4


@pytest.fixture
def deployment(house: Tenant) -> Deployment:
    return made_by(build_deployment(build_pool(house, is_shared=True)))


def made_by(deployment: Deployment) -> Deployment:
    with enter_tenant(deployment.tenant_id):
        Deployment.objects.filter(pk=deployment.pk).update(created_at=STARTED_AT - HOUR)
    return deployment


def line(deployment: Deployment, hour: int, nano_dollars: int, *, app: str = "ap-1", tenant: str = "") -> BilledCost:
    since = STARTED_AT + hour * HOUR
    return BilledCost(
        deployment.name, tenant or str(deployment.tenant_id), since, since + HOUR, nano_dollars, f"{app}:{since}"
    )


def read(*lines: BilledCost, account: AccountRef | None = None) -> Imported:
    with enter_operator("test", reason="to read a bill"):
        return keep_bill("modal", lines, account)


def entries(**conditions: object) -> list[CostEntry]:
    with enter_operator("test", reason="to read the ledger"):
        return list(CostEntry.objects.filter(**conditions).order_by("recorded_at"))


def spent(deployment: Deployment, hour: int, **conditions: object) -> int:
    since = STARTED_AT + hour * HOUR
    found = entries(deployment_id=deployment.pk, occurred_at__gte=since, occurred_at__lt=since + HOUR, **conditions)
    return sum(entry.nano_dollars for entry in found)


# --- any hours, sessions and bills -----------------------------------------------------------------------------------
SECONDS = st.integers(0, HOURS * 3600)
SESSIONS = st.lists(st.tuples(SECONDS, st.integers(1, 3000), st.integers(0, 10**10), st.booleans()), max_size=5)
CONTAINERS = st.lists(st.tuples(SECONDS, st.integers(0, 900), SECONDS, SESSIONS), max_size=3)
BILLS = st.dictionaries(st.integers(0, HOURS), st.lists(st.integers(0, 10**11), min_size=1, max_size=2), max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(containers=CONTAINERS, first=BILLS, later=BILLS, settled_first=st.booleans())
def test_every_billed_hour_adds_up_to_its_bill(
    deployment: Deployment,
    acme: Tenant,
    rival: Tenant,
    containers: list[tuple[int, int, int, list[tuple[int, int, int, bool]]]],
    first: dict[int, list[int]],
    later: dict[int, list[int]],
    *,
    settled_first: bool,
) -> None:
    deployment = another(deployment)
    for number, (begin, ready, life, sessions) in enumerate(containers):
        container = place(deployment, number, begin, ready, life)
        for at, seconds, estimate, is_acmes in sessions:
            build_active_cost(
                container,
                tenant=acme if is_acmes else rival,
                from_seconds=at,
                to_seconds=at + seconds,
                nano_dollars=estimate,
            )
    if settled_first:
        settle_containers(NEXT_DAY)
    read(*lines_of(deployment, first))
    correct_hours(NEXT_DAY)
    settle_containers(NEXT_DAY)
    for hour in range(3 * HOURS):
        lived = sum(lived_in(hour, begin, life, deployment) for begin, _, life, _ in containers)
        assert spent(deployment, hour, source="estimate") == lived
    for bill in (first, later, first):
        read(*lines_of(deployment, bill))
        correct_hours(NEXT_DAY)
        for hour, amounts in bill.items():
            assert spent(deployment, hour) == sum(amounts)
    count = len(entries())
    read(*lines_of(deployment, first))
    assert correct_hours(NEXT_DAY) == 0 and len(entries()) == count


def lived_in(hour: int, begin: int, life: int, deployment: Deployment) -> int:
    """Return what the part of a container's life costs that lies in an hour."""
    since, until = (min(max(0, edge * 3600 - begin), life) * 1000 for edge in (hour, hour + 1))
    rate = deployment.rate_nano_dollars_per_second
    return cost_of(until, rate) - cost_of(since, rate)


def lines_of(deployment: Deployment, bill: dict[int, list[int]]) -> list[BilledCost]:
    """Return the lines of hours; an hour has a line for each App that bore the name, which may end up with nothing."""
    return [
        line(deployment, hour, amount, app=f"ap-{number}")
        for hour, amounts in bill.items()
        for number, amount in enumerate([*amounts, 0][:2])
    ]


def another(deployment: Deployment) -> Deployment:
    """Return a deployment like this one, with a name of its own."""
    name = uuid.uuid4().hex
    with enter_tenant(deployment.tenant_id):
        copy = Deployment.objects.get(pk=deployment.pk)
        copy.pk, copy.name, copy.spec_hash, copy._state.adding = uuid.uuid4(), name, name[:16], True
        copy.save(force_insert=True)
        return copy


def place(deployment: Deployment, number: int, begin: int, ready: int, life: int) -> Container:
    """Save a container that stopped, so many seconds after the first hour began."""
    started_at = STARTED_AT + datetime.timedelta(seconds=begin)
    with enter_tenant(deployment.tenant_id):
        return Container.objects.create(
            deployment=deployment,
            name=f"cascade-{number}",
            state="stopped",
            started_at=started_at,
            ready_at=started_at + datetime.timedelta(seconds=ready),
            stopped_at=started_at + datetime.timedelta(seconds=life),
        )


# --- who carries it --------------------------------------------------------------------------------------------------
def test_calls_of_several_tenants_carry_their_share_of_the_bill(
    deployment: Deployment, acme: Tenant, rival: Tenant
) -> None:
    rate = deployment.rate_nano_dollars_per_second
    container = build_container(deployment, ready_seconds=20, life_seconds=100)
    build_active_cost(container, tenant=acme, from_seconds=20, to_seconds=50, nano_dollars=31 * rate)
    build_active_cost(container, tenant=rival, from_seconds=50, to_seconds=60, nano_dollars=10 * rate)
    settle_containers(NEXT_DAY)
    read(line(deployment, 0, 150 * rate))
    assert correct_hours(NEXT_DAY) == 1
    # A half more than was estimated: of the 40 s talked, 40 s waited and 20 s started, three quarters are acme's.
    assert spent_by_part(source="provider", tenant_id=acme.pk) == {
        "active": 15 * rate,
        "idle_warm": 15 * rate,
        "cold_start": 15 * rate // 2,
    }
    assert spent_by_part(source="provider", tenant_id=rival.pk) == {
        "active": 5 * rate,
        "idle_warm": 5 * rate,
        "cold_start": 5 * rate // 2,
    }
    for entry in entries(source="provider"):
        assert entry.call_id is not None and entry.pool_id == deployment.pool_id
    assert spent(deployment, 0) == 150 * rate
    (hour,) = hours()
    assert (hour.estimated_nano_dollars, hour.billed_nano_dollars) == (100 * rate, 150 * rate)


def test_where_no_call_was_served_the_pool_carries_it(deployment: Deployment, house: Tenant) -> None:
    rate = deployment.rate_nano_dollars_per_second
    build_container(deployment, ready_seconds=20, life_seconds=100)
    settle_containers(NEXT_DAY)
    read(line(deployment, 0, 90 * rate), line(deployment, 2, 7))
    correct_hours(NEXT_DAY)
    assert spent_by_part(source="provider", tenant_id=house.pk, call_id=None, pool_id=deployment.pool_id) == {
        "cold_start": -2 * rate,
        "idle_warm": -8 * rate + 7,
    }


def test_a_container_across_hours_costs_each_hour_its_own_seconds(deployment: Deployment, acme: Tenant) -> None:
    rate = deployment.rate_nano_dollars_per_second
    container = build_container(deployment, ready_seconds=60, life_seconds=2 * 3600 + 600)
    build_active_cost(container, tenant=acme, from_seconds=3500, to_seconds=3700, nano_dollars=123)
    settle_containers(NEXT_DAY)
    assert [spent(deployment, hour) for hour in range(4)] == [3600 * rate, 3600 * rate, 600 * rate, 0]
    assert spent_by_part(tenant_id=acme.pk, part__in=["active", "adjustment"]) == {
        "active": 123,
        "adjustment": 200 * rate - 123,
    }
    assert spent_by_part(call_id=None) == {}, "the call carries the whole life of the container that served it alone"


def test_a_later_correction_of_the_bill_comes_as_further_entries(deployment: Deployment) -> None:
    build_container(deployment)
    settle_containers(NEXT_DAY)
    for amount in (10**9, 2 * 10**9, 10**9):
        assert read(line(deployment, 0, amount)) == Imported(1, 0)
        correct_hours(NEXT_DAY)
        assert spent(deployment, 0) == amount
    assert read(line(deployment, 0, 10**9)) == Imported()
    assert len(entries(source="provider", part="idle_warm")) == 3


def test_an_hour_waits_until_all_of_it_is_settled(deployment: Deployment) -> None:
    container = build_container(deployment, life_seconds=None)
    read(line(deployment, 0, 10**9))
    soon = STARTED_AT + 2 * HOUR
    assert correct_hours(soon) == 0
    settle_containers(soon)
    assert correct_hours(soon) == 0, "it is settled for less than an hour"
    later = STARTED_AT + 3 * HOUR
    settle_containers(later)
    assert correct_hours(later) == 1 and spent(deployment, 0) == 10**9
    with enter_tenant(container.tenant_id):
        Container.objects.filter(pk=container.pk).update(stopped_at=STARTED_AT + 3 * HOUR)
    settle_containers(NEXT_DAY)
    assert spent(deployment, 0) == 10**9, "what is settled later belongs to later hours"


def test_an_entry_that_comes_late_has_the_hour_compared_again(deployment: Deployment, acme: Tenant) -> None:
    container = build_container(deployment)
    settle_containers(NEXT_DAY)
    read(line(deployment, 0, 10**9))
    soon = STARTED_AT + 3 * HOUR
    correct_hours(soon)
    build_active_cost(container, tenant=acme, from_seconds=20, to_seconds=30, nano_dollars=5 * 10**8)
    assert correct_hours(soon) == 1 and spent(deployment, 0) == 10**9
    assert correct_hours(soon) == 0


# --- whose it is -----------------------------------------------------------------------------------------------------
def hours() -> list[BilledHour]:
    with enter_operator("test", reason="to read what was billed"):
        return list(BilledHour.objects.order_by("deployment_name"))


def test_a_deployment_of_before_with_the_same_name_has_its_calls_counted_too(
    deployment: Deployment, acme: Tenant
) -> None:
    container = build_container(deployment, ready_seconds=0, life_seconds=600)
    build_active_cost(container, tenant=acme, from_seconds=0, to_seconds=600)
    with enter_tenant(deployment.tenant_id):
        deployment.start_draining()
        deployment.become_stopped()
    again = build_deployment(deployment.pool)
    with enter_tenant(deployment.tenant_id):
        Deployment.objects.filter(pk=again.pk).update(created_at=STARTED_AT + HOUR / 2)
    settle_containers(NEXT_DAY)
    assert again.name == deployment.name
    read(line(deployment, 0, 10**9, app="ap-1"), line(again, 0, 5, app="ap-2"))
    correct_hours(NEXT_DAY)
    assert spent(deployment, 0) == 10**9 + 5 and spent(again, 0) == 0
    (hour,) = hours()
    assert hour.deployment_id == again.pk


def test_what_carries_our_labels_and_is_no_deployment_of_ours_is_kept_for_the_operator(
    deployment: Deployment, house: Tenant, acme: Tenant
) -> None:
    build_container(deployment)
    settle_containers(NEXT_DAY)
    before = entries()
    since = STARTED_AT
    unknown = [
        BilledCost("development-acme-gone", str(acme.pk), since, since + HOUR, 11, "ap-7:9"),
        BilledCost("development-nobody", str(uuid.uuid4()), since, since + HOUR, 13, "ap-8:9"),
        BilledCost("development-unlabelled", "of no form", since, since + HOUR, 17, "ap-9:9"),
    ]
    assert read(*unknown) == Imported(3, 3)
    assert read(*unknown) == Imported()
    kept = [(hour.deployment_name, hour.tenant_id, hour.billed_nano_dollars) for hour in hours()]
    assert kept == [
        ("development-acme-gone", acme.pk, 11),
        ("development-nobody", house.pk, 13),
        ("development-unlabelled", house.pk, 17),
    ]
    assert correct_hours(NEXT_DAY) == 0 and entries() == before


def test_in_its_own_account_a_tenant_speaks_of_itself_alone(deployment: Deployment, acme: Tenant) -> None:
    account = AccountRef(str(acme.pk), str(uuid.uuid4()))
    assert read(line(deployment, 0, 10**9), account=account) == Imported()
    # It names itself and the house's deployment, which does not stand in its account.
    assert read(line(deployment, 0, 10**9, tenant=str(acme.pk)), account=account) == Imported(1, 1)
    assert correct_hours(NEXT_DAY) == 0
