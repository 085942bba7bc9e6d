"""Settling containers: the ledger holds the cost of their lives to the nano-dollar, and calls pay for their use."""

from __future__ import annotations

import datetime
import random

import pytest

from provisioning.costs import cost_of
from provisioning.models import Container, Deployment
from provisioning.settling import settle_containers
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.provisioning.factories import STARTED_AT, build_active_cost, build_container, build_deployment, build_pool
from tests.provisioning.ledger import spent_by_part

DAY_LATER = STARTED_AT + datetime.timedelta(days=1)


@pytest.fixture
def deployment(house: Tenant) -> Deployment:
    return build_deployment(build_pool(house, is_shared=True))


def spent() -> int:
    return sum(spent_by_part().values())


def test_the_calls_of_several_tenants_share_a_containers_life(
    deployment: Deployment, acme: Tenant, rival: Tenant
) -> None:
    rate = deployment.rate_nano_dollars_per_second
    container = build_container(deployment, ready_seconds=2, life_seconds=60)
    build_active_cost(container, tenant=acme, from_seconds=10, to_seconds=30, nano_dollars=20 * rate)
    build_active_cost(container, tenant=rival, from_seconds=20, to_seconds=40, nano_dollars=20 * rate)
    assert settle_containers(DAY_LATER) == 1
    assert spent() == cost_of(60_000, rate)
    # Each was there for 20 s, 10 of them with the other: 15 s each, which is 5 less than was estimated.
    for tenant in (acme, rival):
        assert spent_by_part(tenant_id=tenant.pk) == {
            "active": 20 * rate,
            "adjustment": -5 * rate,
            "cold_start": rate,
            "idle_warm": 14 * rate,
        }


def test_a_container_that_served_nobody_is_posted_to_its_pool(deployment: Deployment, house: Tenant) -> None:
    build_container(deployment, ready_seconds=2, life_seconds=60)
    settle_containers(DAY_LATER)
    rate = deployment.rate_nano_dollars_per_second
    assert spent_by_part(tenant_id=house.pk, call_id=None, pool_id=deployment.pool_id) == {
        "cold_start": 2 * rate,
        "idle_warm": 58 * rate,
    }


def test_one_that_never_came_up_cost_its_start(deployment: Deployment) -> None:
    build_container(deployment, ready_seconds=None, life_seconds=5)
    settle_containers(DAY_LATER)
    assert spent_by_part() == {"cold_start": 5 * deployment.rate_nano_dollars_per_second}


def test_settling_again_adds_nothing(deployment: Deployment, acme: Tenant) -> None:
    container = build_container(deployment)
    build_active_cost(container, tenant=acme, from_seconds=10, to_seconds=30, nano_dollars=7)
    assert settle_containers(DAY_LATER) == 1
    before = spent()
    assert settle_containers(DAY_LATER) == 0
    assert spent() == before


def test_a_container_that_has_just_stopped_waits_for_late_entries(deployment: Deployment) -> None:
    container = build_container(deployment)
    assert container.stopped_at is not None
    assert settle_containers(container.stopped_at + datetime.timedelta(seconds=30)) == 0


def test_a_container_that_runs_on_is_settled_in_stretches(deployment: Deployment, acme: Tenant) -> None:
    """Sessions that reach from one stretch into the next are paid for once."""
    chance = random.Random(5)
    rate = deployment.rate_nano_dollars_per_second
    container = build_container(deployment, life_seconds=None)
    for _ in range(30):
        begin = chance.uniform(2, 20_000)
        build_active_cost(
            container,
            tenant=acme,
            from_seconds=begin,
            to_seconds=begin + chance.uniform(1, 900),
            nano_dollars=chance.randrange(10**6),
        )
    for hours in range(1, 6):
        settle_containers(STARTED_AT + datetime.timedelta(hours=hours))
    assert not is_settled(container)
    with enter_tenant(deployment.tenant_id):
        Container.objects.filter(pk=container.pk).update(stopped_at=STARTED_AT + datetime.timedelta(seconds=21_000))
    settle_containers(DAY_LATER)
    assert is_settled(container)
    assert spent() == cost_of(21_000_000, rate)


def is_settled(container: Container) -> bool:
    with enter_tenant(container.tenant_id):
        return Container.objects.get(pk=container.pk).is_settled


def test_an_estimate_for_time_after_the_container_was_last_seen_is_taken_back(
    deployment: Deployment, acme: Tenant
) -> None:
    container = build_container(deployment, ready_seconds=2, life_seconds=60)
    build_active_cost(container, tenant=acme, from_seconds=70, to_seconds=80, nano_dollars=999)
    settle_containers(DAY_LATER)
    assert spent() == cost_of(60_000, deployment.rate_nano_dollars_per_second)


def test_one_that_never_lived_costs_nothing(deployment: Deployment, acme: Tenant) -> None:
    container = build_container(deployment, ready_seconds=None, life_seconds=0)
    build_active_cost(container, tenant=acme, from_seconds=5, to_seconds=8, nano_dollars=999)
    settle_containers(DAY_LATER)
    assert spent() == 0


def test_the_longest_call_whose_gateway_died_is_still_in_the_stretch_it_began_in(
    deployment: Deployment, acme: Tenant
) -> None:
    """Its entry is written minutes after its end, when the time before its beginning has been settled already."""
    container = build_container(deployment, life_seconds=None)
    begin, end = 900, 900 + 3600
    settle_containers(STARTED_AT + datetime.timedelta(seconds=end + 100))
    build_active_cost(container, tenant=acme, from_seconds=begin, to_seconds=end, nano_dollars=999)
    settle_containers(STARTED_AT + datetime.timedelta(hours=3))
    with enter_tenant(deployment.tenant_id):
        Container.objects.filter(pk=container.pk).update(stopped_at=STARTED_AT + datetime.timedelta(seconds=15_000))
    settle_containers(DAY_LATER)
    assert spent() == cost_of(15_000_000, deployment.rate_nano_dollars_per_second)


def test_an_estimate_for_time_outside_the_containers_life_is_taken_back(deployment: Deployment, acme: Tenant) -> None:
    container = build_container(deployment, ready_seconds=2, life_seconds=60)
    build_active_cost(container, tenant=acme, from_seconds=-20, to_seconds=1, nano_dollars=999)
    settle_containers(DAY_LATER)
    assert spent() == cost_of(60_000, deployment.rate_nano_dollars_per_second)
    assert spent_by_part(tenant_id=acme.pk) == {"active": 999, "adjustment": -999}


def test_a_container_could_talk_when_it_gave_its_first_place_though_it_was_seen_ready_later(
    deployment: Deployment, acme: Tenant
) -> None:
    rate = deployment.rate_nano_dollars_per_second
    for ready_seconds, name in ((None, "never"), (50, "late")):
        container = build_container(deployment, ready_seconds=ready_seconds, life_seconds=60, name=name)
        build_active_cost(container, tenant=acme, from_seconds=10, to_seconds=30, nano_dollars=20 * rate)
    settle_containers(DAY_LATER)
    assert spent_by_part(tenant_id=acme.pk) == {"active": 40 * rate, "cold_start": 20 * rate, "idle_warm": 60 * rate}
