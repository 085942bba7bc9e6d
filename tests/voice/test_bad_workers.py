"""Workers that do what they should not, or go at a bad moment: the call is kept, and what it cost is in its place."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from websockets.exceptions import ConnectionClosed

from gpu_workers.protocol import Kind
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.callers import Caller, calling, end_of_call, ready, record_of, ticket_url
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker
from tests.voice.scripted_worker import FAREWELL_MESSAGES
from voice.models import Call


async def keep_speaking(caller: Caller) -> None:
    while True:
        await caller.say(1)
        await asyncio.sleep(0.005)


async def test_a_slow_caller_hears_the_last_words_of_a_worker_that_hung_up(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    url = await sync_to_async(ticket_url)(gateway, acme, prompt="mode: farewell")
    async with calling(url, receive_buffer_bytes=32_768) as caller:
        await ready(caller)
        speaking = asyncio.create_task(keep_speaking(caller))
        code = None
        while code is None:
            if len(caller.heard) > FAREWELL_MESSAGES / 2:
                await asyncio.sleep(0.03)  # as on a slow network
            try:
                await caller.next()
            except ConnectionClosed:
                code = caller.connection.close_code
        speaking.cancel()
    assert code == 1000
    assert sum(message[0] == Kind.AUDIO for message in caller.heard) == FAREWELL_MESSAGES
    await end_of_call(acme)
    record = await sync_to_async(record_of)(acme)
    assert record["end_reason"] == "agent_hung_up"
    assert [line["text"] for line in record["transcript"]] == ["Farewell."]


async def test_a_caller_may_hang_up_while_last_words_are_on_their_way(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt="mode: farewell")) as caller:
        await ready(caller)
        await caller.say(1)
        await caller.next_of(Kind.AUDIO)
        caller.connection.transport.abort()
    assert (await end_of_call(acme)).end_reason == "caller_hung_up"


async def test_words_that_cannot_be_written_do_not_cost_the_others(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt="mode: babble")) as caller:
        await ready(caller)
        await caller.ask()
    await end_of_call(acme)
    record = await sync_to_async(record_of)(acme)
    assert [turn["index"] for turn in record["turns"]] == [0, 1]
    texts = [line["text"] for line in record["transcript"]]
    assert texts == ["half ? of a sign", "Hello from the script.", "Question 1", "Answer 1"]
    assert record["end_reason"] == "caller_hung_up"


async def test_what_a_worker_says_before_its_handshake_reaches_the_caller_after_it(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme, prompt="mode: early")) as caller:
        await ready(caller)
        assert (await caller.next_metadata("transcript"))["text"] == "Before I can talk."
        # A message that is taken for waiting would end the call when it has waited for too long.
        for _ in range(6):
            await caller.connection.send(b"\x06")
            await asyncio.sleep(0.5)
        await caller.hang_up()
    assert (await end_of_call(acme)).end_reason == "caller_hung_up"


async def test_a_place_that_failed_ended_when_it_failed(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path, worker_port: int
) -> None:
    with scripted_worker(tmp_path, "silent") as (port, _, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
                factories.create_deployment(port=worker_port, region="eu-west")
            return ticket_url(gateway, acme)

        async with calling(await sync_to_async(prepare)()) as caller:
            await ready(caller)
            await asyncio.sleep(1.0)
    await end_of_call(acme)

    def look() -> None:
        with enter_tenant(acme.id):
            failed, talked = Call.objects.get().sessions.order_by("granted_at")
            assert (failed.why_ended, talked.why_ended) == ("worker_timed_out", "caller_hung_up")
            for session in (failed, talked):
                assert session.ended_at == session.granted_at + datetime.timedelta(milliseconds=session.active_ms)
                # Settling reads from here when the session was there.
                entry = CostEntry.objects.get(session_id=session.id)
                assert (entry.occurred_at, entry.milliseconds) == (session.ended_at, session.active_ms)
            assert failed.ended_at <= talked.granted_at

    await sync_to_async(look)()
