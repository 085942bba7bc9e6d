"""Calls through the gateway to pools on Modal: the real SDK, real containers, and a stand-in for Modal's servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from agents.catalog import templates_by_slug
from agents.models import Agent
from agents.versions import create_agent_from_template, publish
from provisioning import applying
from provisioning.accounts import save_account
from provisioning.models import Deployment, Pool
from provisioning.pools import change_pool, create_pool
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.gpu_workers.speech import speak
from tests.modal_server.pools import become_ready, modal_for_pools, state_of
from tests.modal_server.processes import TENANTS, ModalServer
from tests.voice.callers import Caller, calling, ready
from tests.voice.processes import wait_until
from tests.voice.spoken_calls import call, publish_with
from voice.models import Call, Session
from voice.tickets import call_address, issue_ticket
from voice.wav_caller import write_wav

CALLS = 20


@pytest.fixture
def modal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    with modal_for_pools(tmp_path / "modal", monkeypatch) as server:
        yield server


def salon_on_modal(tenant: Tenant, **fields: Any) -> tuple[Agent, Pool]:
    with enter_tenant(tenant.id):
        agent = create_agent_from_template(template=templates_by_slug()["salon-front-desk"], actor=None, slug="salon")
        publish(agent=agent, actor=None)
        agent.refresh_from_db()
        return agent, create_pool(actor=None, backend="modal", region="us-east", **fields)


def test_a_call_is_answered_by_a_container_on_modal(
    own_gateway: Any, acme: Tenant, modal: ModalServer, tmp_path: Path
) -> None:
    write_wav(tmp_path / "question.wav", speak("What are your opening hours?"))
    agent, pool = salon_on_modal(acme, sessions_per_container=2)
    deployment = become_ready(pool)
    assert deployment.priming["boots"] == ["cold", "restored"]
    gateway = own_gateway(**modal.environment, GATEWAY_HANDSHAKE_SECONDS="30", GATEWAY_CALLER_SILENCE_SECONDS="60")
    record = call(gateway, tmp_path)
    assert "opening hours" in record["turns"][1]["caller"].lower()
    with enter_tenant(acme.id):
        (session,) = Session.objects.all()
        assert session.container.startswith("ta-") and session.boot == "warm"
        assert record["cost"]["nano_dollars"] > 0
    assert modal.token_secret not in gateway.log

    published = len(modal.asked("AppPublish"))
    publish_with(acme, agent, greeting="Good day.")
    assert call(gateway, tmp_path)["turns"][0]["agent"] == "Good day."
    assert len(modal.asked("AppPublish")) == published, "publishing a version touches Modal not at all"


async def test_a_call_finds_its_place_in_the_tenants_own_workspace(
    own_gateway: Any, acme: Tenant, modal: ModalServer
) -> None:
    """The operator has no token at all: the gateway reads the tenant's."""

    def prepare() -> tuple[Any, str, Deployment]:
        with enter_tenant(acme.id):
            save_account(backend="modal", credentials=modal.own_tokens[0], actor=None)
        agent, pool = salon_on_modal(acme, snapshots=False)
        deployment = become_ready(pool)
        without = {**modal.environment, "MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
        gateway = own_gateway(**without, GATEWAY_HANDSHAKE_SECONDS="30")
        with enter_tenant(acme.id):
            return gateway, call_address(gateway.url, issue_ticket(agent)), deployment

    gateway, address, deployment = await sync_to_async(prepare)()
    async with calling(address) as caller:
        await ready(caller)
        apps = modal.running()["apps"]
        assert [(app["name"], app["workspace"]) for app in apps] == [(deployment.name, TENANTS)]
        assert [each["sessions"] for each in modal.containers()] == [1]
    assert modal.own_tokens[0]["token_secret"] not in gateway.log


async def test_rolling_a_pool_drops_none_of_its_calls(own_gateway: Any, acme: Tenant, modal: ModalServer) -> None:
    agent, pool = await sync_to_async(salon_on_modal)(
        acme, sessions_per_container=CALLS, max_containers=2, scaledown_window_seconds=300
    )
    old = await sync_to_async(become_ready)(pool)
    gateway = await sync_to_async(own_gateway)(
        **modal.environment, GATEWAY_HANDSHAKE_SECONDS="30", GATEWAY_CALLER_SILENCE_SECONDS="120"
    )

    def addresses(count: int) -> list[str]:
        with enter_tenant(acme.id):
            return [call_address(gateway.url, issue_ticket(agent)) for _ in range(count)]

    def roll() -> Deployment:
        with enter_tenant(acme.id):
            change_pool(pool=Pool.objects.get(pk=pool.pk), actor=None, memory_mib=2048)
        return become_ready(pool)

    async with contextlib.AsyncExitStack() as held:
        callers: list[Caller] = []
        for address in await sync_to_async(addresses)(CALLS):
            callers.append(await held.enter_async_context(calling(address)))
            await ready(callers[-1])
        new = await sync_to_async(roll)()
        assert new.name != old.name
        (late,) = await sync_to_async(addresses)(1)
        async with calling(late) as newcomer:
            await ready(newcomer)
            # Each is still talked to: stats come now and then for as long as its worker is there.
            for caller in callers:
                caller.heard.clear()
            await asyncio.gather(*(caller.next_metadata("stats") for caller in callers))
        await sync_to_async(applying.apply_pool)(pool.tenant_id, pool.id)
        await asyncio.gather(*(caller.next_metadata("stats") for caller in callers))
        assert (await sync_to_async(state_of)(old)) == Deployment.State.DRAINING

    def ends() -> list[tuple[str, str]]:
        with enter_tenant(acme.id):
            ended = list(Call.objects.ended())
            names = {row.id: row.name for row in Deployment.objects.all()}
            return [(names[one.sessions.get().deployment_id], one.end_reason) for one in ended]

    await sync_to_async(wait_until)(lambda: len(ends()) == CALLS + 1, within_seconds=30, what="the end of all calls")
    assert sorted(await sync_to_async(ends)()) == sorted(
        [(old.name, "caller_hung_up")] * CALLS + [(new.name, "caller_hung_up")]
    )

    def is_stopped() -> bool:
        applying.apply_pool(pool.tenant_id, pool.id)
        return state_of(old) == Deployment.State.STOPPED

    await sync_to_async(wait_until)(is_stopped, within_seconds=60, what="the old deployment's stop")
    assert {each["app"] for each in modal.running()["containers"]} == {new.name}
