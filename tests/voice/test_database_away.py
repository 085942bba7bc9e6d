"""The database goes away from under a gateway, comes back, or does not answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings

from gpu_workers.protocol import CloseCode
from tenants.models import Tenant
from tests.voice.callers import calling, end_of_call, ready, record_of, refusal_of, the_call, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.wire import Wire, wire_to
from voice import statements

Start = Callable[..., GatewayProcess]


@asynccontextmanager
async def gateway_on_a_wire(own_gateway: Start, **limits: str) -> AsyncIterator[tuple[GatewayProcess, Wire]]:
    parts = urlsplit(settings.DATABASE_URL)
    async with wire_to(parts.port or 5432) as (wire, port):
        through_wire = urlunsplit(parts._replace(netloc=parts.netloc.replace(str(parts.port), str(port))))
        limits = {"GATEWAY_CALLER_SILENCE_SECONDS": "60", **limits}
        gateway = await asyncio.to_thread(own_gateway, DATABASE_URL=through_wire, **limits)
        yield gateway, wire
        wire.mend()
        await asyncio.to_thread(gateway.process.stop)


async def is_healthy(gateway: GatewayProcess) -> bool:
    return (await asyncio.to_thread(gateway.get, "/healthz"))[0] == 200


async def falls_ill(gateway: GatewayProcess) -> None:
    """Wait until the gateway says that it is not well: for a second it may say what it said before."""
    async with asyncio.timeout(5):
        while await is_healthy(gateway):
            await asyncio.sleep(0.05)


async def test_the_database_goes_away_during_a_call_and_nothing_is_lost(
    own_gateway: Start, acme: Tenant, place: Any
) -> None:
    async with gateway_on_a_wire(own_gateway) as (gateway, wire):
        async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
            await ready(caller)
            await caller.ask()
            wire.cut()
            assert (await caller.ask())["turns"] == 2  # the relay does not need it
            await falls_ill(gateway)
            status, body = await asyncio.to_thread(gateway.get, "/healthz")
            assert status == 503 and not json.loads(body)["dependencies"]["database"]["ok"]
            assert await refusal_of(f"{gateway.url}/call/any/api/chat") == CloseCode.TRY_AGAIN_LATER
            await caller.hang_up()
        await asyncio.sleep(0.5)
        assert (await sync_to_async(the_call)(acme)).is_live
        wire.mend()
        await end_of_call(acme, within_seconds=15)
        record = await sync_to_async(record_of)(acme)
        assert record["end_reason"] == "caller_hung_up"
        assert [turn["index"] for turn in record["turns"]] == [0, 1, 2]
        assert len(record["transcript"]) == 5


async def test_the_first_caller_after_the_database_was_restarted_is_served(
    own_gateway: Start, acme: Tenant, place: Any
) -> None:
    async with gateway_on_a_wire(own_gateway) as (gateway, wire):
        url = await sync_to_async(ticket_url)(gateway, acme)
        wire.cut()  # which nobody notices: all connections are idle
        wire.mend()
        async with calling(url) as caller:
            await ready(caller)
        await end_of_call(acme)


async def test_a_gateway_finds_its_database_soon_after_it_is_back(own_gateway: Start) -> None:
    async with gateway_on_a_wire(own_gateway) as (gateway, wire):
        wire.cut()
        await falls_ill(gateway)
        began = time.monotonic()
        while time.monotonic() - began < 8:
            assert not await is_healthy(gateway)
        wire.mend()
        async with asyncio.timeout(4):
            while not await is_healthy(gateway):  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.1)


async def test_a_database_that_does_not_answer_holds_nobody_up(own_gateway: Start, acme: Tenant, place: Any) -> None:
    async with gateway_on_a_wire(own_gateway, GATEWAY_DATABASE_SECONDS="1") as (gateway, wire):
        urls = [await sync_to_async(ticket_url)(gateway, acme)]
        async with calling(urls[0]) as caller:
            await ready(caller)
            wire.hold()
            assert await refusal_of(f"{gateway.url}/call/any/api/chat") == CloseCode.TRY_AGAIN_LATER
            assert (await caller.ask())["turns"] == 1  # the relay does not need it
            await caller.hang_up()
        await asyncio.sleep(3)
        wire.mend()
        assert (await end_of_call(acme, within_seconds=25)).turns_count == 1


async def test_nobody_is_billed_while_a_database_that_does_not_answer_is_waited_for(
    own_gateway: Start, acme: Tenant, place: Any
) -> None:
    async with gateway_on_a_wire(own_gateway, GATEWAY_DATABASE_SECONDS="4") as (gateway, wire):
        async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
            await ready(caller)
            began = time.monotonic()
            await asyncio.sleep(1.5)  # what there is to write at the beginning is written
            wire.hold()
            await caller.ask()
            await asyncio.sleep(0.5)  # it is being written
            await caller.hang_up()
            talked_ms = (time.monotonic() - began) * 1000
        await asyncio.sleep(6)
        wire.mend()
        assert abs((await end_of_call(acme, within_seconds=25)).duration_ms - talked_ms) < 1000


async def test_a_tenants_lock_that_is_never_given_back_holds_nobody_up(
    own_gateway: Start, acme: Tenant, place: Any
) -> None:
    gateway = await asyncio.to_thread(own_gateway, GATEWAY_DATABASE_SECONDS="1")
    url = await sync_to_async(ticket_url)(gateway, acme)
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL) as stopped_gateway:
        lock = statements.LOCK_OF_TENANT.format(tenant_id="%s")
        await stopped_gateway.execute(f"SELECT pg_advisory_xact_lock({lock})", (acme.id,))
        assert await refusal_of(url) == CloseCode.TRY_AGAIN_LATER
    async with calling(url) as caller:  # the ticket was not used
        await ready(caller)
    await end_of_call(acme)
