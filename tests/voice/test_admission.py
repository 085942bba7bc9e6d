"""Who is let in by a running gateway, and who is refused with which close code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from billing.models import Usage
from gpu_workers import protocol
from gpu_workers.protocol import CloseCode
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import (
    calling,
    end_of_call,
    ready,
    refusal_of,
    ticket_url,
)
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import until
from voice.models import CallLease
from voice.tickets import call_address, issue_ticket


# --- refusals --------------------------------------------------------------------------------------------------------
async def test_a_ticket_serves_once(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    url = await sync_to_async(ticket_url)(gateway, acme)
    async with calling(url) as caller:
        await ready(caller)
        assert await refusal_of(url) == CloseCode.TICKET_UNKNOWN
        await caller.ask()


async def test_a_ticket_is_no_key_and_a_key_is_no_ticket(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def prepare() -> tuple[str, str]:
        with enter_tenant(acme.id):
            agent = factories.create_agent(allowed_origins=["*"])
            return issue_ticket(agent), agent.public_key

    ticket, key = await sync_to_async(prepare)()
    assert await refusal_of(f"{gateway.url}/agent/{ticket}/api/chat") == CloseCode.AGENT_UNKNOWN
    assert await refusal_of(f"{gateway.url}/call/{key}/api/chat") == CloseCode.TICKET_UNKNOWN
    async with calling(call_address(gateway.url, ticket)) as caller:  # which is still good
        await ready(caller)


async def test_an_expired_ticket_is_refused(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def expire() -> None:
        from django.utils import timezone

        from voice.models import Ticket

        with enter_tenant(acme.id):
            Ticket.objects.update(expires_at=timezone.now())

    url = await sync_to_async(ticket_url)(gateway, acme)
    await sync_to_async(expire)()
    assert await refusal_of(url) == CloseCode.TICKET_UNKNOWN


@pytest.mark.parametrize("path", ["/", "/call/", "/call/x/api", "/agent/pk_unknown/api/chat", "/t/acme/live/"])
async def test_an_unknown_address_is_refused(gateway: GatewayProcess, path: str) -> None:
    assert await refusal_of(gateway.url + path) == CloseCode.AGENT_UNKNOWN


async def test_an_unknown_ticket_is_refused(gateway: GatewayProcess) -> None:
    assert await refusal_of(call_address(gateway.url, "made-up")) == CloseCode.TICKET_UNKNOWN


async def test_an_archived_agent_is_refused(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def archive() -> None:
        from django.utils import timezone

        from agents.models import Agent

        with enter_tenant(acme.id):
            Agent.objects.update(archived_at=timezone.now())

    url = await sync_to_async(ticket_url)(gateway, acme)
    await sync_to_async(archive)()
    assert await refusal_of(url) == CloseCode.AGENT_UNKNOWN


async def test_a_suspended_tenant_is_refused(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def suspend() -> None:
        with enter_tenant(acme.id):
            acme.suspend("unpaid")

    url = await sync_to_async(ticket_url)(gateway, acme)
    await sync_to_async(suspend)()
    assert await refusal_of(url) == CloseCode.TENANT_SUSPENDED


async def test_a_trial_that_has_ended_is_refused(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def end_trial() -> None:
        from django.utils import timezone

        from billing.models import Subscription

        with enter_tenant(acme.id):
            Subscription.objects.update(plan_id="trial", status="trialing", trial_ends_at=timezone.now())

    url = await sync_to_async(ticket_url)(gateway, acme)
    await sync_to_async(end_trial)()
    assert await refusal_of(url) == CloseCode.TRIAL_EXPIRED


async def test_used_up_minutes_are_refused(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def use_up() -> None:
        from django.utils import timezone

        from billing.models import Subscription

        with enter_tenant(acme.id):
            Subscription.objects.update(plan_id="trial")
            Usage.objects.create(
                kind="call_seconds", quantity=120 * 60, occurred_at=timezone.now(), idempotency_key="before"
            )

    url = await sync_to_async(ticket_url)(gateway, acme)
    await sync_to_async(use_up)()
    assert await refusal_of(url) == CloseCode.SPEND_CAP


async def test_a_ticket_for_one_page_serves_no_other(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    url = await sync_to_async(ticket_url)(gateway, acme, origin="https://acme.example")
    assert await refusal_of(url, origin="https://evil.example") == CloseCode.ORIGIN_REFUSED


async def test_a_tenants_limit_holds_when_many_call_at_once(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def tickets() -> list[str]:
        from billing.models import Subscription

        with enter_tenant(acme.id):
            Subscription.objects.update(plan_id="trial")  # three lines
            agent = factories.create_agent()
            return [call_address(gateway.url, issue_ticket(agent)) for _ in range(12)]

    taken = asyncio.Event()

    async def call(url: str) -> int | None:
        async with calling(url) as caller:
            message = caller.next()
            try:
                assert await message == protocol.handshake()
            except Exception:
                return caller.connection.close_code
            await taken.wait()
            return None

    tasks = [asyncio.create_task(call(url)) for url in await sync_to_async(tickets)()]
    await until(lambda: sum(task.done() for task in tasks) == 9, what="the refusals")
    taken.set()
    codes = await asyncio.gather(*tasks)
    assert sorted(codes, key=str) == [4429] * 9 + [None] * 3


async def test_a_line_is_free_again_after_the_call(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def tickets() -> list[str]:
        from billing.models import Subscription

        with enter_tenant(acme.id):
            Subscription.objects.update(plan_id="trial")  # three lines
            agent = factories.create_agent()
            return [call_address(gateway.url, issue_ticket(agent)) for _ in range(5)]

    urls = await sync_to_async(tickets)()
    async with calling(urls[0]) as first, calling(urls[1]) as second:
        for caller in (first, second):
            await ready(caller)
        async with calling(urls[2]) as third:
            await ready(third)
            assert await refusal_of(urls[3]) == CloseCode.TENANT_BUSY
        await end_of_call(acme)
        async with calling(urls[4]) as fourth:
            await ready(fourth)


async def test_a_call_whose_line_had_expired_takes_it_again(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def lose_lines() -> None:
        with enter_tenant(acme.id):  # as the sweeper does when the database was away for longer than a lease
            assert CallLease.objects.all().delete()[0] == 1

    def lines() -> int:
        with enter_tenant(acme.id):
            return CallLease.objects.count()

    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
        await sync_to_async(lose_lines)()
        await caller.ask()
        async with asyncio.timeout(10):
            while await sync_to_async(lines)() != 1:
                await caller.say(1)
    await end_of_call(acme)
    assert await sync_to_async(lines)() == 0


# --- public keys -----------------------------------------------------------------------------------------------------
async def test_an_agents_public_key_serves_allowed_pages_at_a_rate(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    def prepare() -> str:
        with enter_tenant(acme.id):
            agent = factories.create_agent(allowed_origins=["https://acme.example"], calls_per_minute=2)
            return f"{gateway.url}/agent/{agent.public_key}/api/chat"

    url = await sync_to_async(prepare)()
    assert await refusal_of(url) == CloseCode.ORIGIN_REFUSED
    assert await refusal_of(url, origin="https://evil.example") == CloseCode.ORIGIN_REFUSED
    for _ in range(2):
        async with calling(url, origin="https://acme.example") as caller:
            await ready(caller)
    assert await refusal_of(url, origin="https://acme.example") == CloseCode.RATE_LIMITED
