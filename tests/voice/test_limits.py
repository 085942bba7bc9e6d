"""More callers than there is room for, and connections that never become calls: each is told at once, or let go."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from gpu_workers.protocol import CloseCode
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import calling, ready, refusal_of, ticket_url
from tests.voice.conftest import GATEWAY_LIMITS, GatewayProcess
from tests.voice.processes import running, until
from tests.voice.test_bad_callers import BINARY, frame, raw_call
from tests.voice.wire import wire_to
from voice.admission import read_path
from voice.tickets import call_address, issue_ticket

STRICT = {
    "BEHIND_PROXY": "true",
    "GATEWAY_MOST_CALLS": "3",
    "GATEWAY_FLEET_CALLS": "2",
    "GATEWAY_ADDRESS_CALLS_PER_MINUTE": "4",
    "GATEWAY_TENANT_CALLS_PER_MINUTE": "3",
    "GATEWAY_REQUEST_SECONDS": "1",
    "GATEWAY_MOST_REQUESTS": "20",
}


@pytest.fixture(scope="module")
def strict(migrated_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with room for hardly anybody, behind a proxy."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("strict"), {**GATEWAY_LIMITS, **STRICT})
    with running(gateway.process):
        yield gateway


def tickets(gateway: GatewayProcess, tenant: Tenant, count: int, **agent: Any) -> list[str]:
    with enter_tenant(tenant.id):
        called = factories.create_agent(**agent)
        return [call_address(gateway.url, issue_ticket(called)) for _ in range(count)]


def place_of(tenant: Tenant, port: int) -> None:
    with enter_tenant(tenant.id):
        factories.create_deployment(port=port, name=f"scripted-{port}")


def counted(gateway: GatewayProcess, metric: str, reason: str) -> float:
    found = re.search(rf'^{metric}{{reason="{reason}"}} (\S+)$', gateway.get("/metrics")[1], re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextlib.asynccontextmanager
async def idle(gateway: GatewayProcess) -> AsyncIterator[None]:
    """Leave no call behind for the next test, for they are counted."""
    yield
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the end of all calls")


# --- overload --------------------------------------------------------------------------------------------------------
async def test_who_asks_too_often_from_one_address_is_refused_before_the_database_is_asked(
    strict: GatewayProcess,
) -> None:
    address, before = f"{strict.url}/call/made-up/api/chat", counted(strict, REFUSALS, "rate_limited")
    codes = [await refusal_of(address, forwarded_for="192.0.2.1") for _ in range(5)]
    assert codes == [CloseCode.TICKET_UNKNOWN] * 4 + [CloseCode.RATE_LIMITED]
    # What a caller claims of himself comes before what the proxy saw.
    assert await refusal_of(address, forwarded_for="198.51.100.7, 192.0.2.1") == CloseCode.RATE_LIMITED
    assert await refusal_of(address, forwarded_for="192.0.2.2") == CloseCode.TICKET_UNKNOWN
    assert counted(strict, REFUSALS, "rate_limited") == before + 2


async def test_who_comes_back_too_often_is_told_to_try_again_and_not_that_the_call_is_over(
    strict: GatewayProcess,
) -> None:
    address = f"{strict.url}/call/resume/made-up/api/chat"
    codes = [await refusal_of(address, forwarded_for="192.0.2.9") for _ in range(5)]
    assert codes == [CloseCode.CANNOT_RESUME] * 4 + [CloseCode.TRY_AGAIN_LATER]


def test_a_public_key_that_is_too_long_to_be_one_is_not_kept() -> None:
    assert read_path(f"/agent/{'k' * 40}/api/chat") == ("public_key", "k" * 40)
    assert read_path(f"/agent/{'k' * 41}/api/chat") is None


REFUSALS = "warmline_gateway_refusals_total"


async def test_a_tenant_whose_calls_begin_too_often_is_refused_and_no_other(
    strict: GatewayProcess, acme: Tenant, rival: Tenant, place: Any, worker_port: int
) -> None:
    await sync_to_async(place_of)(rival, worker_port)
    async with idle(strict):
        *urls, last = await sync_to_async(tickets)(strict, acme, 4)
        for number, url in enumerate(urls):
            async with calling(url, forwarded_for=f"203.0.113.{number}") as caller:
                await ready(caller)
            await until(lambda: '"calls": 0' in strict.get("/healthz")[1], what="the call's end")
        assert await refusal_of(last, forwarded_for="203.0.113.9") == CloseCode.RATE_LIMITED
        (other,) = await sync_to_async(tickets)(strict, rival, 1)
        async with calling(other, forwarded_for="203.0.113.9") as caller:
            await ready(caller)


async def test_a_public_key_that_is_tried_too_often_is_refused_before_the_database_is_asked(
    strict: GatewayProcess,
) -> None:
    address = f"{strict.url}/agent/pk_nobodys/api/chat"
    codes = [await refusal_of(address, forwarded_for=f"203.0.113.{20 + number}") for number in range(4)]
    assert codes == [CloseCode.AGENT_UNKNOWN] * 3 + [CloseCode.RATE_LIMITED]


async def test_a_full_fleet_and_a_full_gateway_say_so_at_once(
    strict: GatewayProcess, acme: Tenant, rival: Tenant, place: Any, worker_port: int
) -> None:
    await sync_to_async(place_of)(rival, worker_port)
    async with idle(strict), contextlib.AsyncExitStack() as held:
        for number, url in enumerate(await sync_to_async(tickets)(strict, acme, 2)):
            await ready(await held.enter_async_context(calling(url, forwarded_for=f"203.0.113.{40 + number}")))
        (other,) = await sync_to_async(tickets)(strict, rival, 1)
        async with asyncio.timeout(2):
            assert await refusal_of(other, forwarded_for="203.0.113.42") == CloseCode.FLEET_BUSY
        # A third connection of this process, and a fourth, for which there is no room.
        async with acting_slowly(acme):
            stranger = f"{strict.url}/agent/{await sync_to_async(public_key_of)(acme)}/api/chat"
            waiting = await held.enter_async_context(calling(stranger, forwarded_for="203.0.113.43"))
            async with asyncio.timeout(2):
                code = await refusal_of(f"{strict.url}/call/x/api/chat", forwarded_for="203.0.113.44")
            assert code == CloseCode.TRY_AGAIN_LATER
        await waiting.closed_with()


def public_key_of(tenant: Tenant) -> str:
    with enter_tenant(tenant.id):
        from agents.models import Agent

        return Agent.objects.get().public_key


@contextlib.asynccontextmanager
async def acting_slowly(*tenants: Tenant, ends_too: bool = False) -> AsyncIterator[None]:
    """Hold what admissions of these tenants wait for, and `ends_too`: what the ends of their calls wait for."""
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_OPERATOR_URL) as connection:
        for tenant in tenants:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('calls of ' || %s, 0))", (str(tenant.id),)
            )
        if ends_too:
            ids = [tenant.id for tenant in tenants]
            await connection.execute("SELECT 1 FROM voice_callday WHERE tenant_id = ANY(%s) FOR UPDATE", (ids,))
        yield
        await connection.rollback()


async def test_a_tenant_whose_callers_crowd_the_door_holds_up_no_other(
    own_gateway: Any, acme: Tenant, rival: Tenant, place: Any, worker_port: int
) -> None:
    gateway = await asyncio.to_thread(own_gateway)
    await sync_to_async(place_of)(rival, worker_port)
    urls = await sync_to_async(tickets)(gateway, acme, 40)
    (other,) = await sync_to_async(tickets)(gateway, rival, 1)
    async with acting_slowly(acme), contextlib.AsyncExitStack() as held:
        crowd = await asyncio.gather(*(held.enter_async_context(calling(url)) for url in urls))
        async with asyncio.timeout(2), calling(other) as caller:
            await ready(caller)
        # Nobody of the crowd waits for ever, nor has lost anything but time.
        codes = [(await caller.closed_with())[0] for caller in crowd]
    assert set(codes) == {CloseCode.TRY_AGAIN_LATER}
    async with calling(urls[0]) as caller:
        await ready(caller)


async def test_a_tenant_whose_calls_all_end_at_once_holds_up_no_other(
    own_gateway: Any, acme: Tenant, rival: Tenant, place: Any, worker_port: int
) -> None:
    gateway = await asyncio.to_thread(own_gateway)
    await sync_to_async(place_of)(rival, worker_port)
    first, *urls = await sync_to_async(tickets)(gateway, acme, 15)
    async with calling(first) as caller:  # makes the row of the day
        await ready(caller)
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the call's end")
    async with contextlib.AsyncExitStack() as held:
        for url in urls:
            await ready(await held.enter_async_context(calling(url)))
        async with acting_slowly(acme, ends_too=True):
            await held.aclose()  # all hang up
            (other,) = await sync_to_async(tickets)(gateway, rival, 1)
            async with asyncio.timeout(2), calling(other) as caller:
                await ready(caller)


# --- connections that never become calls -----------------------------------------------------------------------------
HALF = b"GET /call/x/api/chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX-More: "


@contextlib.asynccontextmanager
async def connections(
    gateway: GatewayProcess, count: int, head: bytes = HALF, *, host: str = "127.0.0.1"
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Open bare connections and say the beginning of a request on each."""
    opened = [
        await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=(host, 0), limit=1 << 20)
        for _ in range(count)
    ]
    try:
        for _, writer in opened:
            writer.write(head)
        yield opened
    finally:
        for _, writer in opened:
            writer.close()
        for _, writer in opened:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_requests_that_never_end_are_limited_in_number_and_let_go(strict: GatewayProcess) -> None:
    async with connections(strict, 25) as opened:
        dripping = asyncio.create_task(drip(opened[0][1]))  # a byte now and then is no progress
        try:
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(reader.readline() for reader, _ in opened))
        finally:
            dripping.cancel()
    statuses = [int(answer.split()[1]) for answer in answers]
    assert (statuses.count(408), statuses.count(503)) == (20, 5)
    assert counted(strict, "warmline_gateway_requests_refused_total", "too_late") >= 20
    assert counted(strict, "warmline_gateway_requests_refused_total", "no_room") >= 5
    assert await refusal_of(f"{strict.url}/call/x/api/chat", forwarded_for="203.0.113.60") == CloseCode.TICKET_UNKNOWN


async def drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)


async def test_one_address_may_not_take_all_the_room(own_gateway: Any) -> None:
    gateway = await asyncio.to_thread(own_gateway, GATEWAY_MOST_REQUESTS="8", GATEWAY_REQUEST_SECONDS="30")
    async with connections(gateway, 6) as opened:
        async with asyncio.timeout(5):
            assert b" 503 " in await opened[5][0].readline()
        # Loopback has many addresses.
        health = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        async with connections(gateway, 1, health, host="127.0.0.2") as [(reader, _)], asyncio.timeout(5):
            assert b" 200 " in await reader.readline()


async def test_a_flood_of_headers_is_refused(gateway: GatewayProcess) -> None:
    for flood in (b"X-Flood: x\r\n" * 20_000, b"X-Flood: x\r\n" * 300, b"Cookie: " + b"x" * 300_000 + b"\r\n"):
        head = (
            b"GET /call/x/api/chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\nSec-WebSocket-Version: 13\r\n" + flood + b"\r\n"
        )
        async with connections(gateway, 1, head) as [(reader, _)], asyncio.timeout(5):
            line = await reader.readline()
        assert line.split()[1:2] in ([b"400"], [b"431"]), line


async def test_health_is_asked_of_the_database_once_a_second_however_often_it_is_asked_for(own_gateway: Any) -> None:
    parts = urlsplit(settings.DATABASE_URL)
    async with wire_to(parts.port or 5432) as (wire, port):
        through = parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{port}").geturl()
        gateway = await asyncio.to_thread(own_gateway, DATABASE_URL=through)
        before = wire.carried_bytes
        for _ in range(10):
            answers = await asyncio.gather(*(asyncio.to_thread(gateway.get, "/healthz") for _ in range(30)))
            assert {status for status, _ in answers} == {200}
        assert wire.carried_bytes - before < 20_000  # an answer each would be 100,000


# --- memory ----------------------------------------------------------------------------------------------------------
def resident_bytes(gateway: GatewayProcess) -> int:
    pages = Path(f"/proc/{gateway.process.child.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


async def test_memory_stays_bounded_under_all_of_it(
    gateway: GatewayProcess, acme: Tenant, place: Any, worker_port: int
) -> None:
    """Half-open requests, messages without end, callers who read nothing and callers who pour in what nobody takes."""
    flood = await sync_to_async(ticket_url)(gateway, acme, prompt="mode: flood")
    deaf = await sync_to_async(tickets)(gateway, acme, 4, slug="deaf", prompt="mode: read_nothing")
    before = resident_bytes(gateway)
    async with contextlib.AsyncExitStack() as held:
        await held.enter_async_context(connections(gateway, 90))
        await held.enter_async_context(raw_call(flood))  # reads nothing of what the worker pours out
        callers = [await held.enter_async_context(raw_call(url)) for url in deaf]
        strangers = [await held.enter_async_context(raw_call(f"{gateway.url}/call/x/api/chat")) for _ in range(50)]
        await asyncio.gather(*(pour(caller) for caller in [*callers, *strangers]))
        assert resident_bytes(gateway) - before < 80_000_000
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], within_seconds=30, what="the end of all calls")


async def pour(caller: Any) -> None:
    """Send for two seconds what is taken, up to 50 MB: whole messages, then one that never ends."""
    message = frame(BINARY, b"\x01" + bytes(60_000))
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            for _ in range(800):
                await caller.send(message)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.5):
            while True:
                await caller.send(frame(BINARY, bytes(60_000), fin=False))
