"""Where calls are held: near the caller where there is a place, else in the next region; their parts beside them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import calling, end_of_call, ready, record_of
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker
from voice.models import Call
from voice.reaching import share_of
from voice.tickets import call_address, issue_ticket
from voice.whereabouts import region_of_request

KYUTAI = {"stt": "kyutai"}


def deploy(tenant: Tenant, region: str, **fields: Any) -> None:
    with enter_tenant(tenant.id):
        factories.create_deployment(region=region, **fields)


def address(gateway: GatewayProcess, tenant: Tenant, **config: Any) -> str:
    with enter_tenant(tenant.id):
        slug = f"agent-{time.monotonic_ns()}"
        return call_address(gateway.url, issue_ticket(factories.create_agent(slug=slug, more=config)))


async def region_of_call(gateway: GatewayProcess, tenant: Tenant, query: str = "", **headers: str) -> tuple[str, str]:
    """Call once, and return near which region the caller was taken to be, and in which the call was held."""
    url = await sync_to_async(address)(gateway, tenant)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with calling(url + query, headers=named) as caller:
        call_id = (await ready(caller))["call_id"]
        await caller.hang_up()

    def look() -> Call:
        with enter_tenant(tenant.id):
            return Call.objects.get(pk=call_id)

    async with asyncio.timeout(10):
        while (call := await sync_to_async(look)()).is_live:
            await asyncio.sleep(0.02)
    return call.caller_region, call.region


def move(tenant: Tenant, region: str) -> None:
    with enter_tenant(tenant.id):
        Tenant.objects.filter(pk=tenant.pk).update(region=region)


# --- near whom ---------------------------------------------------------------------------------------------------
async def test_a_call_goes_to_the_region_that_its_client_names(
    gateway: GatewayProcess, acme: Tenant, worker_port: int
) -> None:
    for region in ("us-east", "eu-west"):
        await sync_to_async(deploy)(acme, region, port=worker_port)
    await sync_to_async(move)(acme, "us-west")
    assert await region_of_call(gateway, acme, "?region=eu-west") == ("eu-west", "eu-west")
    assert await region_of_call(gateway, acme, "?x=1&region=EU-West&region=us-east") == ("eu-west", "eu-west")
    assert await region_of_call(gateway, acme, Warmline_Region="ap-south") == ("ap-south", "eu-west")
    for unknown in ("", "?region=the-moon", "?region=%00%ff", "?region=" + "x" * 5000):
        assert await region_of_call(gateway, acme, unknown) == ("us-west", "us-east")
    # Nobody said that a network in front of this gateway can be believed.
    assert await region_of_call(gateway, acme, CF_IPCountry="FR") == ("us-west", "us-east")


async def test_the_networks_edge_is_believed_where_a_setting_says_so(
    own_gateway: Any, acme: Tenant, worker_port: int
) -> None:
    for region in ("us-east", "eu-west"):
        await sync_to_async(deploy)(acme, region, port=worker_port)
    gateway = await sync_to_async(own_gateway)(EDGE_REGION_HEADER="CF-IPCountry", WARMLINE_REGION="ca-central")
    assert await region_of_call(gateway, acme, CF_IPCountry="FR") == ("eu-west", "eu-west")
    assert await region_of_call(gateway, acme, "?region=us-west", CF_IPCountry="FR") == ("us-west", "us-east")
    # A tenant that has said nothing has its callers where the installation is.
    assert await region_of_call(gateway, acme, CF_IPCountry="XX") == ("ca-central", "us-east")


def test_what_a_client_says_comes_before_what_the_edge_says() -> None:
    headers = {b"warmline-region": b"US-WEST", b"x-country": b"DE"}
    assert region_of_request(b"region=ap-south", headers, edge_header="X-Country") == "ap-south"
    assert region_of_request(b"region=nowhere", headers, edge_header="X-Country") == "us-west"
    assert region_of_request(b"", {b"x-country": b"DE"}, edge_header="X-Country") == "eu-west"
    assert region_of_request(b"", {b"x-country": b"DE"}, edge_header="") == ""


# --- falling over ------------------------------------------------------------------------------------------------
async def test_a_region_that_hangs_leaves_time_for_the_next(own_gateway: Any, acme: Tenant, worker_port: int) -> None:
    await sync_to_async(deploy)(acme, "eu-west", name="scripted-hanging")
    await sync_to_async(deploy)(acme, "us-east", port=worker_port)
    for region in ("eu-west", "us-east"):
        await sync_to_async(deploy)(acme, region, port=worker_port, worker="stt")
    gateway = await sync_to_async(own_gateway)(GATEWAY_PLACE_SECONDS="0.5", GATEWAY_RESERVE_SECONDS="8")
    url = await sync_to_async(address)(gateway, acme, **KYUTAI)
    async with calling(f"{url}?region=eu-west") as caller:
        await ready(caller)
        await caller.ask()
        await caller.hang_up()
    await end_of_call(acme)
    record = await sync_to_async(record_of)(acme)
    assert (record["caller_region"], record["region"]) == ("eu-west", "us-east")
    (refused,) = record["refused_places"]
    assert (refused["region"], refused["why"], refused["is_own"]) == ("eu-west", "worker_timed_out", True)
    assert 500 <= refused["waited_ms"] < 4000 <= record["ready_ms"] + 4000
    assert {(session["role"], session["region"]) for session in record["sessions"]} == {
        ("engine", "us-east"),
        ("stt", "us-east"),
    }


async def test_parts_of_a_place_that_was_given_up_are_given_back(
    gateway: GatewayProcess, acme: Tenant, worker_port: int, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path, "silent") as (silent_port, _, _):
        await sync_to_async(deploy)(acme, "eu-west", port=silent_port)
        await sync_to_async(deploy)(acme, "us-east", port=worker_port)
        for region in ("eu-west", "us-east"):
            await sync_to_async(deploy)(acme, region, port=worker_port, worker="stt")
        url = await sync_to_async(address)(gateway, acme, **KYUTAI)
        async with calling(f"{url}?region=eu-west") as caller:
            await ready(caller)
            await caller.ask()
            await caller.hang_up()
    await end_of_call(acme)
    record = await sync_to_async(record_of)(acme)
    assert [(each["role"], each["region"], each["why_ended"]) for each in record["sessions"]] == [
        ("engine", "eu-west", "worker_timed_out"),
        ("stt", "eu-west", "given_back"),
        ("engine", "us-east", "caller_hung_up"),
        ("stt", "us-east", "caller_hung_up"),
    ]
    assert record["sessions"][1]["boot"] == "" and record["sessions"][3]["boot"] == "warm"
    assert record["sessions"][1]["active_ms"] < record["refused_places"][0]["waited_ms"]


async def test_where_no_region_has_a_place_the_call_ends_in_time_and_tells_them_all(
    own_gateway: Any, acme: Tenant
) -> None:
    for region in ("eu-west", "us-east", "us-west"):
        await sync_to_async(deploy)(acme, region, name="scripted-hanging")
    gateway = await sync_to_async(own_gateway)(GATEWAY_RESERVE_SECONDS="0.6")
    url = await sync_to_async(address)(gateway, acme)
    async with calling(f"{url}?region=us-west") as caller:
        assert (await caller.closed_with())[0] == 4504
    await end_of_call(acme)
    record = await sync_to_async(record_of)(acme)
    assert record["end_reason"] == "worker_timed_out"
    assert [each["region"] for each in record["refused_places"]] == ["us-west", "us-east", "eu-west"]
    assert record["region"] == record["caller_region"] == "us-west"


@pytest.mark.parametrize(
    ("seconds", "places", "share"), [(60, 1, 60), (60, 2, 15), (60, 5, 12), (8, 2, 4), (-3, 2, 0.001), (-3, 1, 0.001)]
)
def test_each_place_has_a_share_of_the_time_and_the_last_has_the_rest(
    seconds: float, places: int, share: float
) -> None:
    assert share_of(seconds, places=places, at_most=15) == share
