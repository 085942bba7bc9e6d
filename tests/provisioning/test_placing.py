"""Where a call can be held: what a tenant's gateway connection finds, and what it does not."""

from __future__ import annotations

import zoneinfo
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from provisioning.models import Deployment, Pool
from provisioning.placing import Place, find_places
from provisioning.regions import REGIONS, region_near, regions_by_nearness
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.provisioning.factories import build_deployment, build_pool


@pytest.fixture
async def gateway() -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection as the gateway has them: the application's role."""
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL, autocommit=True) as connection:
        yield connection


async def places_of(gateway: psycopg.AsyncConnection, tenant: Tenant, region: str = "us-east") -> list[Place]:
    return await find_places(gateway, tenant_id=tenant.pk, worker="cascade", region=region)


@pytest.fixture
def shared(house: Tenant) -> Deployment:
    return build_deployment(build_pool(house, is_shared=True))


async def test_a_tenants_own_pool_comes_before_the_shared_one(
    gateway: psycopg.AsyncConnection, acme: Tenant, rival: Tenant, shared: Deployment
) -> None:
    own = await sync_to_async(lambda: build_deployment(build_pool(acme)))()
    found = await places_of(gateway, acme)
    assert [(place.deployment_id, place.is_own) for place in found] == [(own.pk, True), (shared.pk, False)]
    assert found[0].ref == own.ref and found[0].rate_nano_dollars_per_second == own.rate_nano_dollars_per_second
    assert [place.deployment_id for place in await places_of(gateway, rival)] == [shared.pk]


async def test_another_tenants_pool_is_never_found_even_if_it_says_that_it_is_shared(
    gateway: psycopg.AsyncConnection, acme: Tenant, rival: Tenant
) -> None:
    await sync_to_async(lambda: build_deployment(build_pool(rival, is_shared=True)))()
    assert await places_of(gateway, acme) == []


async def test_only_ready_deployments_of_enabled_pools_and_of_the_worker_are_found(
    gateway: psycopg.AsyncConnection, acme: Tenant
) -> None:
    def build() -> None:
        build_deployment(build_pool(acme), ready=False)
        build_deployment(build_pool(acme, region="us-east", is_enabled=False))
        build_deployment(build_pool(acme, worker="moshi"))
        draining = build_deployment(build_pool(acme, region="us-west"))
        with enter_tenant(acme.pk):
            draining.start_draining()

    await sync_to_async(build)()
    assert await places_of(gateway, acme) == []


async def test_near_regions_come_before_far_ones(gateway: psycopg.AsyncConnection, acme: Tenant) -> None:
    def build() -> None:
        for region in ("ap-south", "us-west", "eu-west"):
            build_deployment(build_pool(acme, region=region))

    await sync_to_async(build)()
    assert [place.region for place in await places_of(gateway, acme, "us-east")] == ["us-west", "eu-west", "ap-south"]
    assert [place.region for place in await places_of(gateway, acme, "eu-west")][0] == "eu-west"
    assert len(await places_of(gateway, acme, "nowhere")) == 3


async def test_with_no_tenant_entered_nothing_is_found(
    gateway: psycopg.AsyncConnection, acme: Tenant, shared: Deployment
) -> None:
    rows = await (await gateway.execute("SELECT * FROM warmline_places('cascade')")).fetchall()
    assert rows == []


async def test_looking_for_a_place_opens_no_other_row(
    gateway: psycopg.AsyncConnection, acme: Tenant, shared: Deployment
) -> None:
    async with gateway.transaction():
        await places_of(gateway, acme)
        rows = await (await gateway.execute("SELECT * FROM provisioning_pool")).fetchall()
    assert rows == []
    assert shared.pool_id
    assert Pool._meta.db_table == "provisioning_pool"


def test_a_region_is_near_every_country() -> None:
    table = next(path for folder in zoneinfo.TZPATH if (path := Path(folder) / "iso3166.tab").exists())
    countries = [line[:2] for line in table.read_text().splitlines() if not line.startswith("#")]
    assert len(countries) > 240
    for country in countries:
        assert region_near(country) in REGIONS, country


@pytest.mark.parametrize(
    ("place", "region"),
    [
        ("eu-west", "eu-west"),
        (" US-West ", "us-west"),
        ("local", "local"),
        ("fr", "eu-west"),
        ("BR", "us-east"),
        ("eu-central-1", "eu-west"),
        ("us-west-2", "us-west"),
        ("us-west1", "us-west"),
        ("us-central1", "us-east"),
        ("ap-northeast-1", "us-west"),
        ("ap-southeast-1", "ap-south"),
        ("southamerica-east1", "us-east"),
        *((unknown, "") for unknown in ("", "XX", "T1", "-", "moon-1", "e", "\0", "eu")),
    ],
)
def test_a_region_is_found_near_what_others_call_places(place: str, region: str) -> None:
    assert region_near(place) == region


def test_every_region_is_tried() -> None:
    for region in REGIONS:
        assert regions_by_nearness(region)[0] == region
        assert set(regions_by_nearness(region)) == set(REGIONS)
