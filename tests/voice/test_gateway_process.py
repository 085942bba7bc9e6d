"""The gateway as a process: its health, its stop and its end. See also: test_database_away."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice.callers import calling, end_of_call, ready, record_of, the_call, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import until
from voice import tasks
from voice.models import Call, CallLease

Start = Callable[..., GatewayProcess]


async def test_health_names_each_dependency_and_metrics_count_calls(
    own_gateway: Start, acme: Tenant, place: Any
) -> None:
    gateway = await asyncio.to_thread(own_gateway)
    status, body = await asyncio.to_thread(gateway.get, "/healthz")
    health = json.loads(body)
    assert status == 200 and health["ok"] and not health["draining"]
    assert {name: found["ok"] for name, found in health["dependencies"].items()} == {
        "database": True,
        "live_updates": True,
    }
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
    await end_of_call(acme)
    async with calling(f"{gateway.url}/call/unknown/api/chat") as caller:
        await caller.closed_with()

    def count() -> list[str]:
        return [line for line in gateway.get("/metrics")[1].splitlines() if line.startswith("warmline_gateway_")]

    lines = await asyncio.to_thread(count)
    assert 'warmline_gateway_calls_total{boot="warm",end_reason="caller_hung_up"} 1.0' in lines
    assert 'warmline_gateway_refusals_total{reason="ticket_unknown"} 1.0' in lines
    assert "warmline_gateway_turn_seconds_count 1.0" in lines


async def test_metrics_may_need_a_token(own_gateway: Start) -> None:
    gateway = await asyncio.to_thread(own_gateway, METRICS_TOKEN="secret")
    assert (await asyncio.to_thread(gateway.get, "/metrics"))[0] == 401
    assert (await asyncio.to_thread(gateway.get, "/"))[0] == 404


async def test_a_gateway_that_is_stopped_lets_calls_end_and_then_says_goodbye(
    own_gateway: Start, acme: Tenant, place: Any
) -> None:
    gateway = await asyncio.to_thread(own_gateway, GATEWAY_DRAIN_SECONDS="1.5")
    url = await sync_to_async(ticket_url)(gateway, acme)
    async with calling(url) as caller:
        await ready(caller)
        gateway.process.child.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        async with calling(f"{gateway.url}/call/another/api/chat") as another:
            assert (await another.closed_with())[0] == CloseCode.GOING_AWAY
        status, body = await asyncio.to_thread(gateway.get, "/healthz")
        assert status == 503 and json.loads(body)["draining"]
        assert (await caller.ask())["turns"] == 1  # the call goes on
        assert (await caller.closed_with())[0] == CloseCode.GOING_AWAY
        assert 1.4 < time.monotonic() - stopped < 4
    await asyncio.to_thread(gateway.process.child.wait, 10)
    call = await sync_to_async(the_call)(acme)
    assert (call.status, call.end_reason, call.turns_count) == ("ended", "gateway_stopped", 1)


async def test_a_gateway_with_no_calls_stops_at_once(own_gateway: Start) -> None:
    gateway = await asyncio.to_thread(own_gateway, GATEWAY_DRAIN_SECONDS="60")
    began = time.monotonic()
    await asyncio.to_thread(gateway.process.stop)
    assert time.monotonic() - began < 5


async def test_a_killed_gateway_loses_at_most_a_checkpoint(own_gateway: Start, acme: Tenant, place: Any) -> None:
    gateway = await asyncio.to_thread(own_gateway, GATEWAY_CHECKPOINT_SECONDS="1")
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
        await asyncio.sleep(2.2)
        gateway.process.child.kill()
        await caller.closed_with()
    call = await sync_to_async(the_call)(acme)
    assert (call.status, call.turns_count) == ("live", 1)
    assert 1000 < call.duration_ms < 3000

    # A sweep within the resume window leaves it alone, one after it closes it from its last checkpoint, once.
    assert await sync_to_async(tasks.sweep_calls)() == 0
    closed = await asyncio.gather(*(tasks.sweep(window_seconds=0.0) for _ in range(3)))
    assert sum(closed) == 1
    record = await sync_to_async(record_of)(acme)
    assert (record["end_reason"], record["duration_ms"]) == ("gateway_lost", call.duration_ms)
    assert len(record["turns"]) == 2 and len(record["transcript"]) == 3
    assert record["cost"]["nano_dollars"] > 0
    assert record["ended_at"] == call.last_checkpoint_at.isoformat()


async def test_a_slow_gateway_cannot_close_what_the_sweeper_closed(
    own_gateway: Start, acme: Tenant, place: Any
) -> None:
    gateway = await asyncio.to_thread(own_gateway, GATEWAY_CHECKPOINT_SECONDS="1")
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
        gateway.process.child.send_signal(signal.SIGSTOP)
        assert await tasks.sweep(window_seconds=0.0) == 1
        swept = await sync_to_async(record_of)(acme)
        gateway.process.child.send_signal(signal.SIGCONT)
        assert (await caller.closed_with())[0] == CloseCode.INTERNAL_ERROR
    await until(lambda: '"calls": 0' in gateway.get("/healthz")[1], what="the call's end")
    assert await sync_to_async(record_of)(acme) == swept
    assert "call.was_closed_by_another" in gateway.log


async def test_expired_lines_and_old_tickets_are_cleared_away(acme: Tenant, place: Any) -> None:
    def prepare() -> None:
        from datetime import timedelta

        from django.utils import timezone

        from tests.voice import factories
        from voice.models import Ticket
        from voice.tickets import issue_ticket

        with enter_tenant(acme.id):
            agent = factories.create_agent()
            factories.create_call(agent=agent, quiet_seconds=36)
            factories.create_call(agent=agent)
            issue_ticket(agent)
            issue_ticket(agent)
            Ticket.objects.filter(pk=Ticket.objects.first().pk).update(expires_at=timezone.now() - timedelta(days=2))

    def look() -> tuple[int, int, int]:
        from voice.models import Ticket

        with enter_tenant(acme.id):
            return CallLease.objects.count(), Ticket.objects.count(), Call.objects.live().count()

    await sync_to_async(prepare)()
    assert await sync_to_async(tasks.sweep_calls)() == 0
    assert await sync_to_async(look)() == (1, 1, 2)


def test_close_codes_have_reasons_short_enough_for_a_close_frame() -> None:
    assert all(len(code.reason.encode()) <= 123 for code in protocol.CloseCode)
