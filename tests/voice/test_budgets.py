"""A month's limit while calls go on: they share what is left, are wrapped up in words, and end with a code."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from billing.caps import set_caps
from billing.models import Usage
from gpu_workers.protocol import CloseCode
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import Caller, calling, end_of_call, events_of, ready, refusal_of, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker, until
from voice.budgets import Budget
from voice.tickets import call_address, issue_ticket


def test_a_budget_lasts_as_long_as_there_are_few_calls() -> None:
    budget = Budget()
    assert budget.lasts(5.0) == math.inf
    budget.note(60.0, 3, 100.0)
    assert (budget.lasts(100.0), budget.lasts(110.0), budget.lasts(121.0)) == (20.0, 10.0, -1.0)
    budget.is_unsure = True
    assert budget.lasts(110.0) == 10.0 and budget.is_due(101.0, 5.0)
    budget.note(None, 3, 130.0)
    assert budget.lasts(1e9) == math.inf
    assert budget.is_due(190.0, 5.0) and not budget.is_due(150.0, 5.0)


def leave(tenant: Tenant, owner: User, seconds: int) -> None:
    """Let a tenant have so many seconds of its cap of five minutes left."""
    with enter_tenant(tenant.id):
        set_caps(actor=owner, hard_minutes=5)
        Usage.objects.create(
            kind="call_seconds", quantity=300 - seconds, occurred_at=timezone.now(), idempotency_key="before"
        )


def used_seconds(tenant: Tenant) -> int:
    with enter_tenant(tenant.id):
        return Usage.objects.all().total("call_seconds")


async def talk(caller: Caller) -> tuple[int | None, float]:
    """Speak now and then until the gateway closes; returns its code and how long the call was."""
    began = time.monotonic()

    async def speak() -> None:
        while True:
            await caller.say(1)
            await asyncio.sleep(0.2)

    speaking = asyncio.create_task(speak())
    try:
        return (await caller.closed_with())[0], time.monotonic() - began
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


async def test_a_used_up_cap_is_refused(gateway: GatewayProcess, acme: Tenant, alice: User, place: Any) -> None:
    await sync_to_async(leave)(acme, alice, 0)
    assert await refusal_of(await sync_to_async(ticket_url)(gateway, acme)) == CloseCode.SPEND_CAP


async def test_a_call_is_wrapped_up_and_ends_when_the_cap_is_reached(
    gateway: GatewayProcess, acme: Tenant, alice: User, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path) as (port, log, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
            leave(acme, alice, 4)
            return ticket_url(gateway, acme)

        async with calling(await sync_to_async(prepare)()) as caller:
            await ready(caller)
            code, lasted_seconds = await talk(caller)
        (wrap_up,) = [event for event in events_of(log) if "wrap_up" in event.get("text", "")]
        assert '"seconds_left":4' in wrap_up["text"]
    assert code == CloseCode.SPEND_CAP and 3.5 < lasted_seconds < 8
    call = await end_of_call(acme)
    assert (call.end_reason, call.close_code, call.ended_well) == ("spend_cap", CloseCode.SPEND_CAP, True)
    assert await sync_to_async(used_seconds)(acme) <= 301


async def test_calls_that_go_on_share_what_is_left(
    gateway: GatewayProcess, acme: Tenant, alice: User, place: Any
) -> None:
    def prepare() -> list[str]:
        leave(acme, alice, 6)
        with enter_tenant(acme.id):
            agent = factories.create_agent()
            return [call_address(gateway.url, issue_ticket(agent)) for _ in range(2)]

    first_url, second_url = await sync_to_async(prepare)()
    async with calling(first_url) as first, calling(second_url) as second:
        await ready(first)
        await ready(second)
        ends = await asyncio.gather(talk(first), talk(second))
    assert [code for code, _ in ends] == [CloseCode.SPEND_CAP] * 2
    assert all(2 < lasted_seconds < 6 for _, lasted_seconds in ends)
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the end of all calls")
    assert await sync_to_async(used_seconds)(acme) <= 302  # each begun second of a call counts


@pytest.fixture
def watchful(own_gateway: Any) -> Any:
    """A gateway that looks at budgets all the time."""
    return lambda: own_gateway(GATEWAY_BUDGET_SECONDS="0.2")


async def test_a_cap_that_is_lowered_ends_calls_that_go_on(
    watchful: Any, acme: Tenant, alice: User, place: Any
) -> None:
    gateway = await asyncio.to_thread(watchful)

    def prepare() -> str:
        leave(acme, alice, 290)
        return ticket_url(gateway, acme)

    def lower() -> None:
        with enter_tenant(acme.id):
            set_caps(actor=alice, hard_minutes=0)

    async with calling(await sync_to_async(prepare)()) as caller:
        await ready(caller)
        await caller.ask()
        await sync_to_async(lower)()
        code, lasted_seconds = await talk(caller)
    assert code == CloseCode.SPEND_CAP and lasted_seconds < 4
    assert (await end_of_call(acme)).end_reason == "spend_cap"


async def test_another_tenants_cap_ends_no_call(
    gateway: GatewayProcess, acme: Tenant, rival: Tenant, alice: User, place: Any, worker_port: int
) -> None:
    def prepare() -> str:
        leave(acme, alice, 0)
        with enter_tenant(rival.id):
            factories.create_deployment(port=worker_port, name=f"scripted-{worker_port}")
        return ticket_url(gateway, rival)

    async with calling(await sync_to_async(prepare)()) as caller:
        await ready(caller)
        await caller.ask()
        await caller.hang_up()
    assert (await end_of_call(rival)).end_reason == "caller_hung_up"
