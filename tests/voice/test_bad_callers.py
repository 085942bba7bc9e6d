"""Callers who do not keep to the rules: strange addresses, broken frames, floods, and sockets that say nothing."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import calling, end_of_call, ready, refusal_of, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import until
from voice.sockets import CallerSocket

BINARY, CONTINUATION, TEXT, CLOSE, PING = 2, 0, 1, 8, 9


class RawCaller:
    """A caller that writes its frames itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def close_code(self) -> int | None:
        """Read until the gateway closes; returns its code, None where it just went away."""
        async with asyncio.timeout(20):
            try:
                while True:
                    first, length = await self.reader.readexactly(2)
                    if length == 126:
                        length = int.from_bytes(await self.reader.readexactly(2))
                    elif length == 127:
                        length = int.from_bytes(await self.reader.readexactly(8))
                    payload = await self.reader.readexactly(length)
                    if first & 15 == CLOSE:
                        return int.from_bytes(payload[:2])
            except (asyncio.IncompleteReadError, OSError):
                return None


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    head = bytes([fin << 7 | reserved << 4 | opcode])
    assert len(payload) < 65_536
    length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
    if not masked:
        return head + length + payload
    return head + bytes([length[0] | 128]) + length[1:] + bytes(4) + payload  # a mask of zeros changes nothing


@asynccontextmanager
async def raw_call(url: str) -> AsyncIterator[RawCaller]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    try:
        yield RawCaller(reader, writer)
    finally:
        writer.transport.abort()


def public_url(gateway: GatewayProcess, tenant: Tenant, *allowed_origins: str) -> str:
    with enter_tenant(tenant.id):
        agent = factories.create_agent(allowed_origins=list(allowed_origins))
        return f"{gateway.url}/agent/{agent.public_key}/api/chat"


# --- addresses and headers -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["%00", "pk_%00", "%ff%fe", "x" * 5_000, "%E2%98%8E"])
async def test_a_strange_public_key_is_an_unknown_agent(gateway: GatewayProcess, key: str) -> None:
    assert await refusal_of(f"{gateway.url}/agent/{key}/api/chat") == CloseCode.AGENT_UNKNOWN


@pytest.mark.parametrize("origin", ["http://[", "null", "evil.example", "https://", "//acme.example", "file://"])
async def test_what_is_no_origin_is_refused(gateway: GatewayProcess, acme: Tenant, origin: str) -> None:
    url = await sync_to_async(public_url)(gateway, acme, "https://acme.example", "acme.example", "null")
    assert await refusal_of(url, origin=origin) == CloseCode.ORIGIN_REFUSED


@pytest.mark.parametrize(
    "head",
    [
        b"GET /call/x/api/chat HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200_000,
        b"GET /call/" + b"x" * 200_000,
        b"GET /call/\xff\xfe/api/chat HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ],
)
async def test_a_request_that_is_none_is_refused_and_the_gateway_goes_on(gateway: GatewayProcess, head: bytes) -> None:
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(head)
    async with asyncio.timeout(5):
        assert b" 400 " in await reader.readline()
    writer.close()
    assert await refusal_of(f"{gateway.url}/call/x/api/chat") == CloseCode.TICKET_UNKNOWN


async def test_an_address_of_any_length_is_answered(gateway: GatewayProcess) -> None:
    for length in (8_000, 9_000, 30_000):
        with pytest.raises((InvalidMessage, InvalidStatus, ConnectionClosed)):
            async with asyncio.timeout(5), calling(f"{gateway.url}/call/{'x' * length}/api/chat") as caller:
                await caller.connection.recv()


# --- frames ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(BINARY, b"\x01x", masked=False)], CloseCode.PROTOCOL_ERROR),
        ([frame(BINARY, b"\x01x", reserved=4)], CloseCode.PROTOCOL_ERROR),
        ([frame(3)], CloseCode.PROTOCOL_ERROR),
        ([frame(CONTINUATION, b"x")], CloseCode.PROTOCOL_ERROR),
        ([frame(BINARY, b"\x01", fin=False), frame(BINARY, b"\x01")], CloseCode.PROTOCOL_ERROR),
        ([frame(PING, bytes(126))], CloseCode.PROTOCOL_ERROR),
        ([frame(CLOSE, b"\x00")], CloseCode.PROTOCOL_ERROR),
        ([frame(TEXT, b"hello")], CloseCode.UNSUPPORTED_DATA),
        ([frame(BINARY, b"\x01", fin=False)] + 20 * [frame(CONTINUATION, bytes(60_000), fin=False)], 1009),
    ],
)
async def test_broken_frames_end_the_call_with_a_code(
    gateway: GatewayProcess, acme: Tenant, place: Any, frames: list[bytes], code: int
) -> None:
    async with raw_call(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await caller.send(*frames)
        assert await caller.close_code() == code
    call = await end_of_call(acme)
    assert (call.end_reason, call.close_code) == ("caller_fault", code)


async def test_empty_messages_and_unknown_kinds_are_discarded(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        for message in (b"", b"\x00", b"\x07", b"\xff", protocol.metadata({"type": "start", "call_id": "forged"})):
            for _ in range(20):
                await caller.connection.send(message)
        assert (await caller.ask())["turns"] == 1
    call = await end_of_call(acme)
    assert (call.discarded_messages, call.end_reason) == (100, "caller_hung_up")


# --- floods ----------------------------------------------------------------------------------------------------------
async def test_empty_messages_are_not_kept_without_end_while_the_caller_waits() -> None:
    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        if received % 1000 == 0:
            await asyncio.sleep(0)
        return {"type": "websocket.connect"} if received == 1 else {"type": "websocket.receive", "bytes": b""}

    async def send(event: dict[str, Any]) -> None:
        return None

    caller = CallerSocket(receive, send)
    await caller.accept()
    async with asyncio.timeout(5):
        assert await caller.hold(256 * 1024) is False
    assert received < 10_000


async def test_a_flood_of_pings_ends_the_call_and_holds_nobody_up(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with raw_call(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        pings = 500 * frame(PING, bytes(125))
        with pytest.raises(OSError):
            async with asyncio.timeout(5):
                for _ in range(1000):  # 65 MB, and as much in answers
                    await caller.send(pings)
    assert (await end_of_call(acme)).end_reason == "caller_fault"


async def test_pings_between_messages_are_answered(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        hearing = asyncio.create_task(caller.closed_with())  # a client that reads nothing sees no answers
        for _ in range(4):
            async with asyncio.timeout(5):
                for _ in range(60):
                    await (await caller.connection.ping())
            await caller.say(1)
        await caller.hang_up()
        await hearing
    assert (await end_of_call(acme)).end_reason == "caller_hung_up"


async def test_a_message_of_endless_empty_pieces_ends_the_call(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with raw_call(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await caller.send(frame(BINARY, b"\x01", fin=False))
        pieces = 10_000 * frame(CONTINUATION, fin=False)
        with pytest.raises(OSError):
            async with asyncio.timeout(10):
                for _ in range(2000):
                    await caller.send(pieces)
    await end_of_call(acme)


async def test_who_does_not_answer_a_goodbye_is_let_go(gateway: GatewayProcess) -> None:
    async with raw_call(f"{gateway.url}/call/unknown/api/chat") as caller:
        assert await caller.close_code() == CloseCode.TICKET_UNKNOWN
        async with asyncio.timeout(15):
            assert await caller.reader.read() == b""


async def test_many_strangers_at_once_are_all_refused_and_the_next_caller_is_served(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    codes = await asyncio.gather(*(refusal_of(f"{gateway.url}/call/guess-{n}/api/chat") for n in range(200)))
    assert set(codes) == {CloseCode.TICKET_UNKNOWN}
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the end of all calls")
