"""Whole calls through a running gateway: what is recorded, what they cost, and how they end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from billing.models import Usage
from content.models import TranscriptLine
from gpu_workers import protocol
from gpu_workers.protocol import CloseCode, Kind
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import (
    Caller,
    calling,
    end_of_call,
    events_of,
    noted_container,
    ready,
    record_of,
    ticket_url,
)
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker
from voice.models import Call, CallDay, CallLease
from voice.tickets import call_address, issue_ticket


# --- a good call -----------------------------------------------------------------------------------------------------
async def test_a_call_is_held_and_recorded(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    url = await sync_to_async(ticket_url)(gateway, acme)
    async with calling(url) as caller:
        opened = await ready(caller)
        await caller.next_of(Kind.AUDIO)
        stats = [await caller.ask() for _ in range(2)][-1]
        await caller.hang_up()
        hung_up = time.monotonic()
    await end_of_call(acme)
    assert time.monotonic() - hung_up < 1.5  # not only with the next checkpoint
    record = await sync_to_async(record_of)(acme)

    assert record["id"] == opened["call_id"]
    assert (record["status"], record["end_reason"], record["close_code"]) == ("ended", "caller_hung_up", 1000)
    assert (record["agent"], record["version"], record["channel"]) == ("front-desk", 1, "browser")
    assert 0 <= record["setup_ms"] <= record["ready_ms"] <= record["first_audio_ms"] < 2000
    assert record["reserve_ms"] + record["connect_ms"] <= record["ready_ms"]
    assert record["gateway_ms"]["p99"] is not None
    assert (record["boot"], record["boot_ms"]) == ("warm", 123)
    assert [turn["index"] for turn in record["turns"]] == [0, 1, 2]
    assert [turn["caller"] for turn in record["turns"]] == ["", "Question 1", "Question 2"]
    assert [turn["agent"] for turn in record["turns"]] == ["Hello from the script.", "Answer 1", "Answer 2"]
    assert record["turns"][0]["turn_ms"] is None
    for turn in record["turns"][1:]:
        assert sum(turn["parts_ms"].values()) == turn["turn_ms"] > 0
        assert turn["parts_ms"]["stt"] == 8
    assert record["sessions"][0]["container"] == "scripted-1"
    assert record["audio"]["in"]["messages"] == 20
    assert stats["turns"] == 2 and stats["turn_ms"] > 0 and stats["first_audio_ms"] == record["first_audio_ms"]


async def test_its_cost_is_exact_and_its_usage_is_sold(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
    await end_of_call(acme)

    def look() -> None:
        with enter_tenant(acme.id):
            call = Call.objects.get()
            (session,) = call.sessions.all()
            (entry,) = CostEntry.objects.all()
            (usage,) = Usage.objects.all()
            assert entry.nano_dollars == call.cost_nano_dollars
            assert entry.nano_dollars == (session.active_ms * factories.RATE_NANO_DOLLARS_PER_SECOND + 500) // 1000
            assert (entry.milliseconds, entry.part, entry.container) == (session.active_ms, "active", "scripted-1")
            assert usage.quantity == -(-call.duration_ms // 1000) >= 1
            assert session.active_ms >= call.duration_ms
            assert not CallLease.objects.exists()
            (day,) = CallDay.objects.all()
            assert (day.calls, day.failed_calls, day.turns) == (1, 0, 1)
            assert sum(day.first_audio_histogram) == sum(day.turn_histogram) == 1
            assert day.cost_nano_dollars == call.cost_nano_dollars

    await sync_to_async(look)()


async def test_two_calls_on_one_container_share_its_cost(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    def two_tickets() -> list[str]:
        with enter_tenant(acme.id):
            agent = factories.create_agent()
            return [call_address(gateway.url, issue_ticket(agent)) for _ in range(2)]

    first_url, second_url = await sync_to_async(two_tickets)()
    async with calling(first_url) as first, calling(second_url) as second:
        for caller in (first, second):
            await ready(caller)
        await noted_container(acme, calls=2)
        for caller in (first, second):
            await caller.ask()
        await asyncio.sleep(0.5)  # a stretch that both are there

    def look() -> bool:
        with enter_tenant(acme.id):
            calls = list(Call.objects.ended())
            if len(calls) < 2:
                return False
            alone = sum(
                session.active_ms * factories.RATE_NANO_DOLLARS_PER_SECOND // 1000
                for call in calls
                for session in call.sessions.all()
            )
            assert 0.4 * alone < sum(call.cost_nano_dollars for call in calls) < 0.95 * alone
            return True

    deadline = time.monotonic() + 10
    while not await sync_to_async(look)():
        assert time.monotonic() < deadline


async def test_tenants_share_the_cost_of_a_shared_container(
    gateway: GatewayProcess, acme: Tenant, rival: Tenant, house: Tenant, worker_port: int
) -> None:
    def prepare() -> list[str]:
        with enter_tenant(house.id):
            factories.create_deployment(port=worker_port, is_shared=True)
        return [ticket_url(gateway, acme), ticket_url(gateway, rival)]

    first_url, second_url = await sync_to_async(prepare)()
    async with calling(first_url) as first, calling(second_url) as second:
        for caller in (first, second):
            await ready(caller)
        for tenant in (acme, rival):
            await noted_container(tenant)
        await asyncio.sleep(1.0)  # a stretch that both are there

    def share_of(tenant: Tenant) -> float:
        with enter_tenant(tenant.id):
            (session,) = Call.objects.get().sessions.all()
            (entry,) = CostEntry.objects.all()
            return entry.nano_dollars * 1000 / (session.active_ms * factories.RATE_NANO_DOLLARS_PER_SECOND)

    for tenant in (acme, rival):
        await end_of_call(tenant)
        assert 0.45 < await sync_to_async(share_of)(tenant) < 0.95


async def test_a_tenant_whose_content_was_deleted_still_ends_its_calls(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    def delete_key() -> None:
        from content.keys import delete_content_key

        with enter_tenant(acme.id):
            delete_content_key()

    url = await sync_to_async(ticket_url)(gateway, acme)
    await sync_to_async(delete_key)()
    async with calling(url) as caller:
        await ready(caller)
        await caller.ask()
    call = await end_of_call(acme)
    assert (call.end_reason, call.turns_count) == ("caller_hung_up", 1)


async def test_the_worker_is_told_who_to_be(gateway: GatewayProcess, acme: Tenant, tmp_path: Path) -> None:
    with scripted_worker(tmp_path) as (port, log, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
                agent = factories.create_agent(prompt="Be kind.")
                return call_address(gateway.url, issue_ticket(agent, max_seconds=60))

        async with calling(await sync_to_async(prepare)()) as caller:
            opened = await ready(caller)
        start = events_of(log)[0]
        assert start["token"].startswith("Bearer ")
        document = start["document"]
        assert document["call_id"] == opened["call_id"]
        assert (document["agent"]["prompt"], document["agent"]["voice"]) == ("Be kind.", "heart")
        assert document["business"]["name"] == "Acme"
        assert document["tools_endpoint"]["url"].endswith(f"/internal/calls/{opened['call_id']}/tools")
        assert document["limits"] == {"max_seconds": 60, "warn_before_seconds": 15}
        assert opened["max_seconds"] == 60


async def test_transcripts_are_encrypted_at_rest(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
    await end_of_call(acme)

    def look() -> None:
        from django.db import connection

        with enter_tenant(acme.id):
            assert "Question 1" in [line.text for line in TranscriptLine.objects.all()]
            with connection.cursor() as cursor:
                cursor.execute("SELECT text FROM content_transcriptline")
                assert all(b"Question" not in bytes(text) for (text,) in cursor.fetchall())

    await sync_to_async(look)()


# --- ends ------------------------------------------------------------------------------------------------------------
async def test_the_agent_hangs_up(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt="mode: finish")) as caller:
        await ready(caller)
        await caller.say(20)
        assert await caller.closed_with() == (1000, CloseCode.NORMAL.reason)
    assert (await end_of_call(acme)).end_reason == "agent_hung_up"


@pytest.mark.parametrize(
    ("mode", "reason", "code"),
    [
        ("silent", "worker_timed_out", CloseCode.WORKER_TIMED_OUT),
        ("refuse", "no_worker", CloseCode.WORKER_UNAVAILABLE),
        ("close_early", "worker_at_capacity", CloseCode.WORKER_AT_CAPACITY),
    ],
)
async def test_a_bad_worker_has_a_close_code_and_a_record(
    gateway: GatewayProcess, acme: Tenant, place: Any, mode: str, reason: str, code: CloseCode
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt=f"mode: {mode}")) as caller:
        await caller.say()
        assert await caller.closed_with() == (code, code.reason)
    call = await end_of_call(acme)
    assert (call.end_reason, call.close_code) == (reason, code)


async def test_a_worker_process_that_dies_ends_the_call(gateway: GatewayProcess, acme: Tenant, tmp_path: Path) -> None:
    with scripted_worker(tmp_path, "crash") as (port, _, process):
        async with calling(await sync_to_async(ticket_url)(gateway, acme, port=port)) as caller:
            await ready(caller)
            await caller.say()
            assert (await caller.closed_with())[0] == CloseCode.WORKER_LOST
        assert process.child.wait(5) == 3
    await end_of_call(acme)
    record = await sync_to_async(record_of)(acme)
    assert record["end_reason"] == "worker_lost"
    assert len(record["turns"]) == 2 and record["cost"]["nano_dollars"] > 0


async def test_without_any_deployment_the_caller_is_told(gateway: GatewayProcess, acme: Tenant) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        assert (await caller.closed_with())[0] == CloseCode.WORKER_UNAVAILABLE
    call = await end_of_call(acme)
    assert (call.end_reason, call.cost_nano_dollars, call.duration_ms) == ("no_worker", 0, 0)


async def test_full_containers_are_told_and_the_next_place_is_tried(
    gateway: GatewayProcess, acme: Tenant, worker_port: int
) -> None:
    def full_only() -> str:
        with enter_tenant(acme.id):
            factories.create_deployment(name="scripted-full")
        return ticket_url(gateway, acme)

    url = await sync_to_async(full_only)()
    async with calling(url) as caller:
        assert (await caller.closed_with())[0] == CloseCode.WORKER_AT_CAPACITY

    def another_place() -> str:
        with enter_tenant(acme.id):
            factories.create_deployment(port=worker_port, region="eu-west")
            return call_address(gateway.url, issue_ticket(factories.Agent.objects.get()))

    async with calling(await sync_to_async(another_place)()) as caller:
        await ready(caller)


async def test_a_shared_pool_of_the_operator_serves_a_tenant_without_one(
    gateway: GatewayProcess, acme: Tenant, house: Tenant, worker_port: int
) -> None:
    def prepare() -> str:
        with enter_tenant(house.id):
            factories.create_deployment(port=worker_port, is_shared=True)
        return ticket_url(gateway, acme)

    async with calling(await sync_to_async(prepare)()) as caller:
        await ready(caller)
        await caller.ask()
    assert (await end_of_call(acme)).cost_nano_dollars > 0


async def test_text_frames_end_the_call(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.connection.send("hello")
        assert (await caller.closed_with())[0] == CloseCode.UNSUPPORTED_DATA
    assert (await end_of_call(acme)).end_reason == "caller_fault"


async def test_a_huge_message_ends_the_call(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.connection.send(bytes(protocol.MAX_MESSAGE_BYTES + 1))
        assert (await caller.closed_with())[0] == CloseCode.MESSAGE_TOO_BIG
    call = await end_of_call(acme)
    assert call.close_code == CloseCode.MESSAGE_TOO_BIG


async def test_a_caller_who_hangs_up_while_waiting_is_recorded(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt="mode: silent")) as caller:
        await asyncio.sleep(0.3)
        await caller.hang_up()
        hung_up = time.monotonic()
    call = await end_of_call(acme)
    assert call.end_reason == "caller_hung_up" and call.ready_ms is None
    assert time.monotonic() - hung_up < 1.2  # not only when the worker's time is up


async def test_what_is_said_while_waiting_is_heard(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await caller.say()
        await ready(caller)
        while (await caller.next_metadata("stats"))["turns"] < 1:
            pass


async def test_the_time_limit_warns_the_agent_and_ends_the_call(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path, "echo") as (port, log, _):
        async with calling(await sync_to_async(ticket_url)(gateway, acme, port=port, max_seconds=4)) as caller:
            await ready(caller)
            became_ready = time.monotonic()
            speaking = asyncio.create_task(_keep_speaking(caller))
            assert (await caller.closed_with())[0] == CloseCode.TIME_LIMIT
            assert 3.9 < time.monotonic() - became_ready < 6
            speaking.cancel()
        (told,) = [event for event in events_of(log) if event["event"] == "message"]
        assert told["kind"] == Kind.METADATA and '"wrap_up","seconds_left":1' in told["text"]
    call = await end_of_call(acme)
    assert call.end_reason == "time_limit" and 3900 < call.duration_ms < 6000


async def test_a_silent_caller_is_let_go(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        assert (await caller.closed_with())[0] == CloseCode.TIMED_OUT
    assert (await end_of_call(acme)).end_reason == "caller_silent"


async def test_a_caller_who_takes_no_messages_is_let_go(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt="mode: flood")) as caller:
        speaking = asyncio.create_task(_keep_speaking(caller))
        call = await end_of_call(acme, within_seconds=15)
        speaking.cancel()
    assert call.end_reason == "caller_stuck"


async def _keep_speaking(caller: Caller) -> None:
    while True:
        await caller.say(1)
        await asyncio.sleep(0.1)
