"""Calls whose speech is heard or made by workers of other pools: a session for each, with its boot, time and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async

from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import calling, end_of_call, events_of, ready
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker
from voice.models import Call, Session
from voice.starting import parts_of
from voice.tickets import call_address, issue_ticket

KYUTAI = {"stt": "kyutai", "tts": "kyutai"}


def url_of(gateway: GatewayProcess, tenant: Tenant, **config: Any) -> str:
    with enter_tenant(tenant.id):
        agent = factories.create_agent(more=config)
        return call_address(gateway.url, issue_ticket(agent))


def deploy(tenant: Tenant, worker: str, **fields: Any) -> None:
    with enter_tenant(tenant.id):
        factories.create_deployment(worker=worker, **fields)


async def test_a_call_holds_a_session_on_each_worker_that_it_uses(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path) as (port, log, _):
        for kind in ("cascade", "stt", "tts"):
            await sync_to_async(deploy)(acme, kind, port=port)
        async with calling(await sync_to_async(url_of)(gateway, acme, **KYUTAI)) as caller:
            await ready(caller)
            await caller.ask()
            await caller.hang_up()
        await end_of_call(acme)
        (start,) = [event["document"] for event in events_of(log) if event["event"] == "start"]
    assert set(start["parts"]) == {"stt", "tts"}
    for part in start["parts"].values():
        assert part["url"] == f"ws://127.0.0.1:{port}/api/chat"
        assert part["headers"]["Modal-Authorization"].startswith("Bearer ")

    def look() -> None:
        with enter_tenant(acme.id):
            call = Call.objects.get()
            sessions = {session.role: session for session in Session.objects.all()}
            assert set(sessions) == {"engine", "stt", "tts"}
            assert {session.boot for session in sessions.values()} == {"warm"}
            assert all(session.active_ms > 0 and session.ended_at for session in sessions.values())
            assert CostEntry.objects.filter(part="active").count() == 3
            assert call.cost_nano_dollars == CostEntry.objects.total()
            assert call.pool_id == sessions["engine"].pool_id

    await sync_to_async(look)()


async def test_a_worker_that_cannot_be_had_is_left_out_and_the_call_goes_on(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path) as (port, log, _):
        await sync_to_async(deploy)(acme, "cascade", port=port)
        await sync_to_async(deploy)(acme, "stt", name="scripted-full")
        async with calling(await sync_to_async(url_of)(gateway, acme, **KYUTAI)) as caller:
            await ready(caller)
            await caller.ask()
            await caller.hang_up()
        await end_of_call(acme)
        (start,) = [event["document"] for event in events_of(log) if event["event"] == "start"]
    assert start["parts"] == {}

    def roles() -> list[str]:
        with enter_tenant(acme.id):
            return [session.role for session in Session.objects.all()]

    assert await sync_to_async(roles)() == ["engine"]


async def test_an_agent_that_asks_for_none_holds_none(gateway: GatewayProcess, acme: Tenant, tmp_path: Path) -> None:
    with scripted_worker(tmp_path) as (port, log, _):
        for kind in ("cascade", "stt", "tts"):
            await sync_to_async(deploy)(acme, kind, port=port)
        async with calling(await sync_to_async(url_of)(gateway, acme)) as caller:
            await ready(caller)
            await caller.hang_up()
        await end_of_call(acme)
        (start,) = [event["document"] for event in events_of(log) if event["event"] == "start"]
    assert start["parts"] == {}


def test_only_a_cascade_has_parts() -> None:
    assert parts_of({"engine": "cascade", **KYUTAI}) == ["stt", "tts"]
    assert parts_of({"engine": "cascade", "stt": "own", "tts": "kyutai"}) == ["tts"]
    assert parts_of({"engine": "moshi", **KYUTAI}) == []
