"""Callers of the tests: real WebSocket clients of the gateway, and what comes before and after a call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode, Kind
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from voice.models import Call, Session
from voice.records import call_record, find_call
from voice.tickets import call_address, issue_ticket

ANSWER_SECONDS = 10.0


class Caller:
    """One connection to the gateway; keeps what it heard."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[bytes] = []
        self.asked = 0

    async def next(self) -> bytes:
        async with asyncio.timeout(ANSWER_SECONDS):
            message = await self.connection.recv()
        assert isinstance(message, bytes)
        self.heard.append(message)
        return message

    async def next_of(self, kind: Kind) -> bytes:
        while (message := await self.next())[0] != kind:
            pass
        return message

    async def next_metadata(self, type_: str) -> dict[str, Any]:
        while True:
            document = protocol.read_metadata(await self.next_of(Kind.METADATA))
            if document["type"] == type_:
                return document

    async def say(self, messages: int = 10) -> None:
        """Send audio messages; after ten the scripted worker takes the caller to have finished."""
        for _ in range(messages):
            await self.connection.send(protocol.audio(b"OggS something said"))

    async def ask(self) -> dict[str, Any]:
        """Say something and hear the reply; returns the stats that count it."""
        self.asked += 1
        await self.say()
        while (stats := await self.next_metadata("stats"))["turns"] < self.asked:
            pass
        return stats

    async def hang_up(self) -> None:
        await self.connection.close()

    async def closed_with(self) -> tuple[int | None, str]:
        """Listen until the gateway closes; returns its code and reason."""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    message = await self.connection.recv()
                    assert isinstance(message, bytes)
                    self.heard.append(message)
        return self.connection.close_code, self.connection.close_reason or ""


@contextlib.asynccontextmanager
async def calling(
    url: str,
    *,
    origin: str | None = None,
    headers: dict[str, str] | None = None,
    receive_buffer_bytes: int | None = None,
    forwarded_for: str | None = None,
) -> AsyncIterator[Caller]:
    """Connect to a gateway.

    Args:
        receive_buffer_bytes: of the kernel, small for a caller whose network is slow.
        forwarded_for: what a proxy says of where the caller is.
    """
    parts = urlsplit(url)
    line = socket.socket()
    if receive_buffer_bytes is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    line.connect((parts.hostname, parts.port))
    line.setblocking(False)
    async with connect(
        url,
        sock=line,
        compression=None,
        proxy=None,
        max_size=None,
        max_queue=4,
        close_timeout=1,
        origin=origin,  # type: ignore[arg-type]
        additional_headers={**(headers or {}), **({"X-Forwarded-For": forwarded_for} if forwarded_for else {})},
    ) as connection:
        yield Caller(connection)


async def refusal_of(url: str, origin: str | None = None, *, forwarded_for: str | None = None) -> int | None:
    """Call where no call may begin; returns the close code, which has its own reason."""
    async with calling(url, origin=origin, forwarded_for=forwarded_for) as caller:
        code, reason = await caller.closed_with()
        assert not caller.heard
        assert reason == CloseCode(code).reason  # type: ignore[call-arg, arg-type]
        return code


def events_of(log: Any) -> list[dict[str, Any]]:
    """Return what a scripted worker wrote down."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


# --- what a test does around a call ---------------------------------------------------------------------------------
def ticket_url(
    gateway: GatewayProcess, tenant: Tenant, *, prompt: str = "", port: int | None = None, **options: Any
) -> str:
    """Make an agent and a ticket for it, and a deployment of the worker at `port` if given; return where to call."""
    with enter_tenant(tenant.id):
        if port is not None:
            factories.create_deployment(port=port)
        agent = factories.create_agent(prompt=prompt)
        return call_address(gateway.url, issue_ticket(agent, **options))


def the_call(tenant: Tenant) -> Call:
    with enter_tenant(tenant.id):
        return Call.objects.select_related("agent", "version").get()


def ended_call(tenant: Tenant) -> Call | None:
    with enter_tenant(tenant.id):
        return Call.objects.ended().first()


async def end_of_call(tenant: Tenant, within_seconds: float = 10.0) -> Call:
    deadline = time.monotonic() + within_seconds
    while (call := await sync_to_async(ended_call)(tenant)) is None:
        assert time.monotonic() < deadline, "the call's end was not written"
        await asyncio.sleep(0.02)
    return call


async def noted_container(tenant: Tenant, calls: int = 1, within_seconds: float = 10.0) -> None:
    """Wait until it is written on which container each of a tenant's calls is, for others to share its cost."""

    def count() -> int:
        with enter_tenant(tenant.id):
            return Session.objects.exclude(container="").count()

    deadline = time.monotonic() + within_seconds
    while await sync_to_async(count)() < calls:
        assert time.monotonic() < deadline, "the containers were not written"
        await asyncio.sleep(0.02)


def record_of(tenant: Tenant) -> dict[str, Any]:
    with enter_tenant(tenant.id):
        return call_record(find_call(Call.objects.get().pk))


async def ready(caller: Caller) -> dict[str, Any]:
    assert await caller.next() == protocol.handshake()
    return await caller.next_metadata("call")
