"""A worker is lost during a call, and the call goes on with another: what is heard, told, counted and paid for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import Caller, calling, end_of_call, events_of, ready, record_of, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import Process, scripted_worker, until
from tests.voice.voices import Ear, Voice, metadata_of, told_of
from voice.models import Call


@pytest.fixture
def two_workers(acme: Tenant, tmp_path: Path) -> Iterator[list[tuple[Path, Process]]]:
    """Two places, near and far, each with a scripted worker of its own: its log and its process."""
    with contextlib.ExitStack() as stack:
        workers = []
        for region in ("local", "eu-west"):
            port, log, process = stack.enter_context(scripted_worker(tmp_path, "answer"))
            with enter_tenant(acme.id):
                factories.create_deployment(port=port, region=region)
            workers.append((log, process))
        yield workers


async def keep_speaking(caller: Caller, voice: Voice) -> None:
    while True:
        await voice.speak(caller, loud_seconds=0, quiet_seconds=0.2)


async def test_a_killed_worker_costs_the_caller_a_moment_and_not_the_call(
    either_gateway: GatewayProcess, acme: Tenant, two_workers: Any
) -> None:
    (_, near), (log, _) = two_workers
    url = await sync_to_async(ticket_url)(either_gateway, acme, prompt="mode: whistle")
    voice, ear = Voice(), Ear()
    async with calling(url) as caller:
        await ready(caller)
        await ear.next_loud(caller)
        await voice.speak(caller, loud_seconds=0.4, quiet_seconds=0.6)
        await ear.next_loud(caller)

        near.child.kill()
        killed = time.monotonic()
        await caller.next_metadata("reconnecting")
        speaking = asyncio.create_task(keep_speaking(caller, voice))
        await ear.next_loud(caller)  # by the same decoder: a new Ogg stream begins within the old one
        heard_after_ms = (time.monotonic() - killed) * 1000
        told = await told_of(caller, "reconnected")
        assert 0 < told["gap_ms"] < heard_after_ms
        speaking.cancel()

        # The new worker understands a stream that it comes to in the middle.
        ended = await voice.speak(caller, loud_seconds=0.4, quiet_seconds=0.6)
        await ear.next_loud(caller)
        replied_ms = (time.monotonic() - ended) * 1000
        await caller.next_metadata("stats")
        await caller.hang_up()
    await end_of_call(acme)

    record = await sync_to_async(record_of)(acme)
    assert (record["end_reason"], record["failovers"]) == ("caller_hung_up", 1)
    lost, refused, found = record["sessions"]  # the scripted backend grants places on containers that are gone
    assert refused["why_ended"] == "worker_unavailable"
    assert (lost["why_ended"], found["why_ended"]) == ("worker_lost", "caller_hung_up")
    assert (lost["gap_ms"], found["gap_ms"]) == (None, told["gap_ms"])
    assert record["longest_gap_ms"] == told["gap_ms"]
    assert record["audio"]["in"]["messages"] == voice.sent
    # The second worker counts from 0; the call's turns go on, and their times are of the right messages.
    assert [turn["index"] for turn in record["turns"]] == [0, 1, 2, 3]
    assert [turn["turn_ms"] is None for turn in record["turns"]] == [True, False, True, False]
    assert 400 < record["turns"][3]["turn_ms"] <= replied_ms + 25
    assert record["turns"][2]["at_ms"] < record["turns"][3]["at_ms"]
    assert [line["turn"] for line in record["transcript"]] == [0, 1, 2, 3]
    start = next(event for event in events_of(log) if event["event"] == "start")["document"]
    assert [(said["role"], said["text"]) for said in start["history"]] == [
        ("agent", "Whistle 0"),
        ("agent", "Whistle 1"),
    ]
    await sync_to_async(each_session_is_paid_for_once)(acme, record)


def each_session_is_paid_for_once(tenant: Tenant, record: dict[str, Any]) -> None:
    with enter_tenant(tenant.id):
        call = Call.objects.get()
        lost, _, found = call.sessions.order_by("granted_at")
        costs = {entry.session_id: entry for entry in CostEntry.objects.of_call(call.pk)}
        assert lost.ended_at <= found.granted_at
        assert all(costs[session.pk].milliseconds == session.active_ms for session in (lost, found))
        assert call.ended_at is not None and call.ready_ms is not None
        on_the_line_ms = (call.ended_at - call.started_at).total_seconds() * 1000 - call.ready_ms
        # Nobody pays for the time between the two.
        without_ms = (found.granted_at - lost.ended_at).total_seconds() * 1000
        assert without_ms > 0
        assert call.duration_ms <= on_the_line_ms - without_ms + 5


async def test_a_worker_that_falls_silent_is_lost_like_one_that_is_gone(
    gateway: GatewayProcess, acme: Tenant, two_workers: Any
) -> None:
    (_, near), (log, _) = two_workers
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        near.child.send_signal(signal.SIGSTOP)
        speaking = asyncio.create_task(keep_speaking(caller, Voice()))
        await caller.next_metadata("reconnecting")
        told = await caller.next_metadata("reconnected")
        assert 1_500 < told["gap_ms"] < 6_000  # since it was heard last
        speaking.cancel()
        await caller.hang_up()
    call = await end_of_call(acme)
    assert (call.failovers, call.end_reason) == (1, "caller_hung_up")
    assert call.duration_ms < 2_500
    near.child.send_signal(signal.SIGCONT)
    assert [event["event"] for event in events_of(log)][0] == "start"


async def test_what_is_said_while_no_agent_is_there_is_heard_by_the_next(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path, "lose") as (port, log, _):
        async with calling(await sync_to_async(ticket_url)(gateway, acme, port=port)) as caller:
            await ready(caller)
            await caller.say(10)
            await caller.next_metadata("reconnecting")
            await caller.say(7)
            await caller.next_metadata("reconnected")
            await caller.say(3)
            await caller.next_metadata("reconnecting")
            await caller.hang_up()
        record_end = await end_of_call(acme)
        assert record_end.audio_in_messages == 20
        await until(lambda: len([e for e in events_of(log) if e["event"] == "closed"]) >= 2, what="its sessions' ends")
        assert [event["heard"] for event in events_of(log) if event["event"] == "closed"][:2] == [10, 10]


async def test_a_worker_that_is_gone_at_once_on_each_start_ends_the_call(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt="mode: vanish")) as caller:
        assert await caller.closed_with() == (CloseCode.WORKER_LOST, CloseCode.WORKER_LOST.reason)
    call = await end_of_call(acme)
    assert (call.end_reason, call.failovers) == ("worker_lost", 5)
    assert call.duration_ms < 500


async def test_a_caller_may_hang_up_while_another_agent_is_looked_for(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path, "crash") as (port, _, _):
        async with calling(await sync_to_async(ticket_url)(gateway, acme, port=port)) as caller:
            await ready(caller)
            await caller.say()
            await caller.next_metadata("reconnecting")
            await caller.hang_up()
    assert (await end_of_call(acme)).end_reason == "caller_hung_up"


async def test_the_reply_to_another_worker_counts_the_callers_messages_from_its_own_first(
    gateway: GatewayProcess, acme: Tenant, two_workers: Any
) -> None:
    """Messages that are no Ogg have no header pages to replay: nothing is sent that the caller did not say."""
    (_, near), (log, _) = two_workers
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
        near.child.kill()
        await caller.next_metadata("reconnected")
        await caller.say(10)
        while (await caller.next_metadata("stats"))["turns"] < 2:
            pass
        await caller.hang_up()
    await end_of_call(acme)
    record = await sync_to_async(record_of)(acme)
    assert [turn["index"] for turn in record["turns"]] == [0, 1, 2, 3]
    assert 35 < record["turns"][3]["turn_ms"] < 1_000
    assert metadata_of(caller, "reconnecting") == [{"type": "reconnecting"}]
    assert protocol.read_kind(caller.heard[0]) == protocol.Kind.HANDSHAKE
    assert sum(message[0] == protocol.Kind.HANDSHAKE for message in caller.heard) == 1
