"""A caller's connection is lost, and the caller comes back: to the same gateway, or to another one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from billing.models import Usage
from gpu_workers import protocol
from gpu_workers.protocol import CloseCode, Kind
from tenants.models import Tenant
from tenants.scope import ENTER_SQL, enter_tenant
from tests.voice import factories
from tests.voice.callers import (
    Caller,
    calling,
    end_of_call,
    ended_call,
    events_of,
    ready,
    record_of,
    refusal_of,
    the_call,
    ticket_url,
)
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker, until
from tests.voice.voices import Ear, Voice, metadata_of, told_of
from voice import tasks
from voice.models import Call, CallLease

Start = Callable[..., GatewayProcess]


def resumable_url(gateway: GatewayProcess, tenant: Tenant, **options: Any) -> str:
    return f"{ticket_url(gateway, tenant, **options)}?resume=1"


@contextlib.asynccontextmanager
async def coming_back(gateway: GatewayProcess, token: str) -> AsyncIterator[Caller]:
    async with calling(f"{gateway.url}/call/resume/{token}/api/chat") as caller:
        yield caller


async def lose(caller: Caller) -> None:
    caller.connection.transport.abort()
    await caller.connection.wait_closed()


def look(tenant: Tenant) -> Call:
    with enter_tenant(tenant.id):
        return Call.objects.get()


def sold_seconds(tenant: Tenant) -> list[int]:
    with enter_tenant(tenant.id):
        return [int(usage.quantity) for usage in Usage.objects.all()]


async def test_a_caller_comes_back_to_the_same_call_on_the_same_container(
    either_gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path) as (port, log, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
            return resumable_url(either_gateway, acme)

        async with calling(await sync_to_async(prepare)()) as caller:
            told = await ready(caller)
            assert told["resume_seconds"] == 3
            await caller.ask()
            await lose(caller)
        await asyncio.sleep(1.5)
        async with coming_back(either_gateway, told["resume_token"]) as back:
            told_again = await ready(back)
            assert told_again["call_id"] == told["call_id"]
            assert told_again["resume_token"] != told["resume_token"]
            assert told_again["resumes"] == 1 and told_again["elapsed_ms"] < 1_500
            back.asked = 1
            await back.ask()
            await back.hang_up()
        await end_of_call(acme)
        record = await sync_to_async(record_of)(acme)
        assert (record["end_reason"], record["resumes"], record["failovers"]) == ("caller_hung_up", 1, 0)
        assert [turn["index"] for turn in record["turns"]] == [0, 1, 2]
        assert record["turns"][2]["turn_ms"] > 35
        assert record["audio"]["in"]["messages"] == 20
        assert record["duration_ms"] < 1_500 <= record["longest_gap_ms"] < 2_500  # nobody is billed for silence
        assert len(record["sessions"]) == 1
        assert [event["event"] for event in events_of(log)] == ["start", "closed"]


async def test_the_newest_of_what_the_agent_says_meanwhile_is_heard_after_the_return(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(resumable_url)(gateway, acme, prompt="mode: count")) as caller:
        told = await ready(caller)
        await caller.next_of(Kind.AUDIO)
        await lose(caller)
        before = numbers(caller)
    await asyncio.sleep(1.0)  # a hundred messages of 18 bytes or so
    async with coming_back(gateway, told["resume_token"]) as back:
        await ready(back)
        while len(numbers(back)) < 60:
            await back.next()
        await back.hang_up()
        heard = numbers(back)
    assert heard == list(range(heard[0], heard[0] + len(heard)))
    assert heard[0] > before[-1] + 40
    call = await end_of_call(acme)
    assert call.audio_out_messages < heard[-1] - (heard[0] - before[-1]) + 40  # what nobody heard is not counted


async def test_what_the_agent_said_to_nobody_is_not_counted_where_the_caller_stays_away(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path) as (port, _, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
            return resumable_url(gateway, acme, prompt="mode: speak_alone")

        async with calling(await sync_to_async(prepare)()) as caller:
            await ready(caller)
            await caller.next_of(Kind.AUDIO)
            await lose(caller)
        call = await end_of_call(acme)
    assert call.end_reason == "caller_lost"
    assert call.audio_out_messages == 1


def numbers(caller: Caller) -> list[int]:
    return [int(message.rsplit(b" ", 1)[1]) for message in caller.heard if message[0] == Kind.AUDIO]


async def test_a_stream_that_goes_on_can_be_decoded_after_the_return(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    voice, ear = Voice(), Ear()
    async with calling(await sync_to_async(resumable_url)(gateway, acme, prompt="mode: whistle")) as caller:
        told = await ready(caller)
        await ear.next_loud(caller)
        await voice.speak(caller, loud_seconds=0.1, quiet_seconds=0.1)
        await lose(caller)
    async with coming_back(gateway, told["resume_token"]) as back:
        await ready(back)
        # A page that was loaded anew knows nothing of the old stream, and begins one of its own.
        voice, ear = Voice(), Ear()
        await voice.speak(back, loud_seconds=0.3, quiet_seconds=0.6)
        await ear.next_loud(back)
        pages = next(message for message in back.heard if message[0] == Kind.AUDIO)
        assert b"OpusHead" in pages and b"OpusTags" in pages
        await back.hang_up()
    await end_of_call(acme)


@pytest.mark.parametrize("code", [1000, 1001])
async def test_who_says_goodbye_is_not_waited_for(gateway: GatewayProcess, acme: Tenant, place: Any, code: int) -> None:
    async with calling(await sync_to_async(resumable_url)(gateway, acme)) as caller:
        told = await ready(caller)
        await caller.connection.close(code)
    assert (await end_of_call(acme, within_seconds=2)).end_reason == "caller_hung_up"
    assert await refusal_of(f"{gateway.url}/call/resume/{told['resume_token']}/api/chat") == CloseCode.CANNOT_RESUME


async def test_who_does_not_come_back_in_time_is_not_billed_for_the_wait(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(resumable_url)(gateway, acme)) as caller:
        await ready(caller)
        await caller.ask()
        await lose(caller)
    began = time.monotonic()
    await asyncio.sleep(1.0)
    assert (await sync_to_async(look)(acme)).is_live
    call = await end_of_call(acme)
    assert 2.5 < time.monotonic() - began < 6
    assert (call.end_reason, call.close_code) == ("caller_lost", CloseCode.TIMED_OUT)
    assert call.duration_ms < 1_000
    assert await sync_to_async(sold_seconds)(acme) == [1]


async def test_a_client_that_cannot_come_back_ends_its_call_at_once(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(ticket_url)(gateway, acme)) as caller:
        assert "resume_token" not in await ready(caller)
        await lose(caller)
    assert (await end_of_call(acme, within_seconds=2)).end_reason == "caller_hung_up"
    lines = (await asyncio.to_thread(gateway.get, "/metrics"))[1].splitlines()
    assert any(line.startswith('warmline_gateway_callers_lost_total{can_resume="no"}') for line in lines)


async def test_a_token_is_good_once(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    async with calling(await sync_to_async(resumable_url)(gateway, acme)) as caller:
        first = (await ready(caller))["resume_token"]
        await lose(caller)
    for wrong in ("unknown", "", "x" * 3_000, "%00"):
        code = await refusal_of(f"{gateway.url}/call/resume/{wrong}/api/chat")
        assert code in (CloseCode.CANNOT_RESUME, CloseCode.AGENT_UNKNOWN)
    async with coming_back(gateway, first) as back:
        await ready(back)
        await lose(back)  # before anything was said: the new token may not have arrived
    async with coming_back(gateway, first) as back:
        second = (await ready(back))["resume_token"]
        await until_spent(acme, back)
        replayed = await refusal_of(f"{gateway.url}/call/resume/{first}/api/chat")
        assert replayed == CloseCode.CANNOT_RESUME
        await lose(back)
    async with coming_back(gateway, second) as back:
        assert (await ready(back))["resumes"] == 3
        await back.hang_up()
    await end_of_call(acme)


async def until_spent(tenant: Tenant, caller: Caller) -> None:
    deadline = time.monotonic() + 10
    while (await sync_to_async(look)(tenant)).spent_token_hash:
        assert time.monotonic() < deadline
        await caller.say(1)
        await asyncio.sleep(0.05)


async def test_a_caller_may_come_back_before_the_old_connection_looks_lost(
    either_gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    async with calling(await sync_to_async(resumable_url)(either_gateway, acme)) as caller:
        told = await ready(caller)
        await caller.ask()
        async with coming_back(either_gateway, told["resume_token"]) as back:
            await ready(back)
            assert (await caller.closed_with())[0] == CloseCode.RESUMED_ELSEWHERE
            back.asked = 1
            await back.ask()
            await back.hang_up()
    call = await end_of_call(acme)
    assert (call.resumes, call.end_reason) == (1, "caller_hung_up")


async def test_a_worker_that_is_lost_while_the_caller_is_away_is_replaced_at_the_return(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path, worker_port: int
) -> None:
    with scripted_worker(tmp_path) as (port, _, process):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
                factories.create_deployment(port=worker_port, region="eu-west")
            return resumable_url(gateway, acme)

        async with calling(await sync_to_async(prepare)()) as caller:
            told = await ready(caller)
            await caller.ask()
            await lose(caller)
        process.child.kill()
        async with coming_back(gateway, told["resume_token"]) as back:
            await ready(back)
            back.asked = 1
            await back.ask()
            await back.hang_up()
    call = await end_of_call(acme)
    assert (call.resumes, call.failovers, call.turns_count) == (1, 1, 2)


# --- another gateway -----------------------------------------------------------------------------------------------
async def test_a_call_goes_on_at_another_gateway_when_its_own_is_killed(
    gateway: GatewayProcess, own_gateway: Start, acme: Tenant, tmp_path: Path
) -> None:
    doomed = await asyncio.to_thread(own_gateway, GATEWAY_CHECKPOINT_SECONDS="0.5")
    with scripted_worker(tmp_path) as (port, log, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
            return resumable_url(doomed, acme)

        async with calling(await sync_to_async(prepare)()) as caller:
            told = await ready(caller)
            await caller.ask()
            await asyncio.sleep(1.2)
            doomed.process.child.kill()
            assert (await caller.closed_with())[0] == 1006
        lost = await sync_to_async(look)(acme)
        await asyncio.sleep(1.0)
        async with coming_back(gateway, told["resume_token"]) as back:
            told_again = await ready(back)
            assert told_again["call_id"] == told["call_id"]
            assert (await told_of(back, "reconnected"))["gap_ms"] < 2_000
            back.asked = 1
            await back.ask()
            await back.hang_up()
        await end_of_call(acme)
        record = await sync_to_async(record_of)(acme)
        starts = [event for event in events_of(log) if event["event"] == "start"]
        assert starts[0]["token"] == starts[1]["token"]  # the same place on the same container
    assert [said["text"] for said in starts[1]["document"]["history"]] == [
        "Hello from the script.",
        "Question 1",
        "Answer 1",
    ]
    assert (record["end_reason"], record["resumes"]) == ("caller_hung_up", 1)
    assert [turn["index"] for turn in record["turns"]] == [0, 1, 2, 3]
    assert [line["turn"] for line in record["transcript"]] == [0, 1, 1, 2, 3, 3]
    assert record["audio"]["in"]["messages"] == 20
    assert len(record["sessions"]) == 1
    call = await sync_to_async(look)(acme)
    assert call.epoch == 3  # opened, taken over, closed
    assert call.first_audio_ms == lost.first_audio_ms and call.ready_ms == lost.ready_ms
    assert call.duration_ms < lost.duration_ms + 1_000  # the time without a gateway is nobody's
    assert call.cost_nano_dollars > 0


async def test_a_gateway_that_stops_hands_its_calls_over(
    gateway: GatewayProcess, own_gateway: Start, acme: Tenant, tmp_path: Path
) -> None:
    stopping = await asyncio.to_thread(own_gateway, GATEWAY_DRAIN_SECONDS="0.3")
    with scripted_worker(tmp_path) as (port, log, _):

        def prepare() -> str:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)
            return resumable_url(stopping, acme)

        async with calling(await sync_to_async(prepare)()) as caller:
            told = await ready(caller)
            await caller.ask()
            stopping.process.child.send_signal(signal.SIGTERM)
            status, body = await asyncio.to_thread(stopping.get, "/healthz")
            assert status == 503 and json.loads(body)["draining"]
            assert (await caller.closed_with())[0] == CloseCode.GOING_AWAY
        handed_over = await sync_to_async(look)(acme)
        assert handed_over.is_live and handed_over.audio_in_messages == 10
        async with coming_back(gateway, told["resume_token"]) as back:
            await ready(back)
            back.asked = 1
            await back.ask()
            await back.hang_up()
        await asyncio.to_thread(stopping.process.child.wait, 10)
        call = await end_of_call(acme)
        assert (call.turns_count, call.audio_in_messages, call.end_reason) == (2, 20, "caller_hung_up")
        starts = [event for event in events_of(log) if event["event"] == "start"]
        assert starts[0]["token"] == starts[1]["token"]


async def test_who_comes_back_just_as_the_call_is_handed_over_is_sent_to_another_gateway(
    gateway: GatewayProcess, own_gateway: Start, acme: Tenant, place: Any
) -> None:
    stopping = await asyncio.to_thread(own_gateway, GATEWAY_DRAIN_SECONDS="0.5")
    async with calling(await sync_to_async(resumable_url)(stopping, acme)) as caller:
        told = await ready(caller)
        await caller.ask()
        await asyncio.sleep(1.5)  # all news are written
        async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL) as busy:
            await busy.execute(ENTER_SQL, (str(acme.id),))
            await busy.execute("SELECT FROM voice_call WHERE id = %s FOR UPDATE", (told["call_id"],))
            async with coming_back(stopping, told["resume_token"]) as early:
                await asyncio.sleep(0.2)  # its token is being looked up
                stopping.process.child.send_signal(signal.SIGTERM)
                await asyncio.sleep(1.0)  # and now the call's last checkpoint is being written
                await busy.rollback()
                assert (await early.closed_with())[0] == CloseCode.GOING_AWAY
    async with coming_back(gateway, told["resume_token"]) as back:
        await ready(back)
        await back.hang_up()
    await end_of_call(acme)


async def test_a_gateway_that_was_only_slow_cannot_write_to_a_call_that_another_took(
    gateway: GatewayProcess, own_gateway: Start, acme: Tenant, place: Any
) -> None:
    slow = await asyncio.to_thread(own_gateway)
    async with calling(await sync_to_async(resumable_url)(slow, acme)) as caller:
        told = await ready(caller)
        await caller.ask()
        await noted_turns(acme, 1)
        slow.process.child.send_signal(signal.SIGSTOP)
        async with coming_back(gateway, told["resume_token"]) as back:
            await ready(back)
            slow.process.child.send_signal(signal.SIGCONT)
            assert (await caller.closed_with())[0] == CloseCode.RESUMED_ELSEWHERE
            back.asked = 1
            await back.ask()
            await back.hang_up()
    await until(lambda: slow.is_free(), what="the slow gateway's end of the call")
    call = await end_of_call(acme)
    assert (call.turns_count, call.end_reason, call.epoch) == (2, "caller_hung_up", 3)
    assert "call.was_taken_over" in slow.log
    assert len(await sync_to_async(sold_seconds)(acme)) == 1


async def noted_turns(tenant: Tenant, turns: int) -> None:
    deadline = time.monotonic() + 10
    while (await sync_to_async(look)(tenant)).turns_count < turns:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_what_nobody_comes_back_to_is_swept_from_its_last_checkpoint_once(
    gateway: GatewayProcess, own_gateway: Start, acme: Tenant, place: Any
) -> None:
    doomed = await asyncio.to_thread(own_gateway)
    async with calling(await sync_to_async(resumable_url)(doomed, acme)) as caller:
        told = await ready(caller)
        await caller.ask()
        await noted_turns(acme, 1)
        doomed.process.child.kill()
        await caller.closed_with()
    assert await tasks.sweep(window_seconds=33.0) == 0
    lost = await sync_to_async(look)(acme)
    assert sum(await asyncio.gather(*(tasks.sweep(window_seconds=0.0) for _ in range(3)))) == 1
    call = await sync_to_async(ended_call)(acme)
    assert call is not None and (call.end_reason, call.duration_ms) == ("gateway_lost", lost.duration_ms)
    assert await refusal_of(f"{gateway.url}/call/resume/{told['resume_token']}/api/chat") == CloseCode.CANNOT_RESUME

    def left() -> tuple[int, int]:
        with enter_tenant(acme.id):
            return CallLease.objects.count(), call.sessions.exclude(reach=None).count()

    assert await sync_to_async(left)() == (0, 0)


async def test_how_a_container_is_reached_is_encrypted_and_gone_with_the_call(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    def reaches() -> list[bytes | None]:
        with enter_tenant(acme.id):
            return [None if each.reach is None else bytes(each.reach) for each in Call.objects.get().sessions.all()]

    async with calling(await sync_to_async(resumable_url)(gateway, acme)) as caller:
        await ready(caller)
        await noted_turns(acme, 0)
        await caller.ask()
        await noted_turns(acme, 1)
        (sealed,) = await sync_to_async(reaches)()
        assert sealed is not None and b"signed" not in sealed and b"127.0.0.1" not in sealed
        await caller.hang_up()
    await end_of_call(acme)
    assert await sync_to_async(reaches)() == [None]
    assert (await sync_to_async(the_call)(acme)).resumes == 0
    assert metadata_of(caller, "reconnecting") == []
    assert protocol.PROTOCOL_VERSION == 0
