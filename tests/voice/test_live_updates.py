"""Live updates for open pages, through a real web process: members see their calls, nobody else does."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tenants.models import Tenant, User
from tests.voice.callers import calling, ready, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import Process, running, wait_until
from voice import consumers

PUBLIC_URL = "http://localhost:8000"


@pytest.fixture(scope="module")
def web(migrated_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
    output = tmp_path_factory.mktemp("web") / "web.log"
    process = Process(command, output=output, env={"PUBLIC_URL": PUBLIC_URL})

    def answers() -> bool:
        assert process.child.poll() is None, output.read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    with running(process):
        wait_until(answers, within_seconds=30, what="the web process's start")
        yield f"ws://127.0.0.1:{port}"


async def open_updates(
    web: str, path: str, client_of: Any, user: User | None, origin: str = PUBLIC_URL
) -> ClientConnection:
    headers = {}
    if user is not None:
        client = await sync_to_async(client_of)(user)
        headers["Cookie"] = f"sessionid={client.cookies['sessionid'].value}"
    return await connect(
        web + path,
        additional_headers=headers,
        origin=origin,
        proxy=None,
        ping_interval=None,  # type: ignore[arg-type]
    )


async def refusal(updates: ClientConnection) -> int | None:
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed):
            await updates.recv()
    return updates.close_code


async def next_update(updates: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return json.loads(await updates.recv())


async def test_a_member_sees_a_call_open_go_on_and_end(
    web: str, gateway: GatewayProcess, acme: Tenant, place: Any, bob: User, olivia: User, client_of: Any
) -> None:
    async with (
        await open_updates(web, "/t/acme/live/", client_of, bob) as members,
        await open_updates(web, "/fleet/live/", client_of, olivia) as operators,
    ):
        await asyncio.sleep(0.3)  # until the groups are joined, which nothing tells
        async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
            opened = await ready(caller)
            await caller.ask()
        for updates in (members, operators):
            heard = []
            while not heard or heard[-1]["event"] != "ended":
                heard.append(await next_update(updates))
            assert heard[0]["event"] == "opened"
            assert {update["call"]["id"] for update in heard} == {opened["call_id"]}
            assert heard[-1]["call"]["turns"] == 1
            assert heard[-1]["call"]["end_reason"] == "caller_hung_up"


async def test_outsiders_and_strangers_are_refused(
    web: str, acme: Tenant, rival: Tenant, charlie: User, client_of: Any
) -> None:
    for path in ("/t/acme/live/", "/t/no-such-tenant/live/", "/fleet/live/"):
        for user in (charlie, None):
            async with await open_updates(web, path, client_of, user) as updates:
                assert await refusal(updates) == 4404


async def test_a_tenants_owner_is_no_operator(web: str, acme: Tenant, alice: User, client_of: Any) -> None:
    async with await open_updates(web, "/fleet/live/", client_of, alice) as updates:
        assert await refusal(updates) == 4404


async def test_other_pages_may_not_listen(web: str, acme: Tenant, alice: User, client_of: Any) -> None:
    with pytest.raises(InvalidStatus):
        await open_updates(web, "/t/acme/live/", client_of, alice, origin="https://evil.example")


async def test_a_member_hears_nothing_of_other_tenants(
    web: str, gateway: GatewayProcess, acme: Tenant, rival: Tenant, place: Any, charlie: User, client_of: Any
) -> None:
    async with await open_updates(web, "/t/rival/live/", client_of, charlie) as updates:
        await asyncio.sleep(0.3)  # as above
        async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
            await ready(caller)
            await caller.ask()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await updates.recv()


async def test_a_database_that_is_away_at_a_recheck_does_not_end_the_rechecks(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [OperationalError("away"), "group", None]
    closed: list[int] = []

    class Updates(consumers._Updates):
        group = "group"

        async def find_group(self) -> str | None:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def close(self, code: int | None = None, reason: str | None = None) -> None:
            closed.append(code or 0)

    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 0.001)
    async with asyncio.timeout(5):
        await Updates()._recheck()
    assert closed == [consumers.NOT_FOUND] and not answers
