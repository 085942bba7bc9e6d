"""A telephone on a bridge to the real gateway and a scripted worker, over sockets and in real time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asgiref.sync import sync_to_async

from gpu_workers.protocol import CloseCode
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import scripted_worker, until
from tests.voice.telephony.telephones import Record, Telephone
from voice.models import Call
from voice.telephony.bridge import Bridge, Ending, EndKind
from voice.telephony.g711 import RATE_HZ
from voice.tickets import call_address, issue_ticket

TONE = (0.3 * np.sin(2 * np.pi * 330 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)


@sync_to_async
def address_of(gateway: GatewayProcess, tenant: Tenant, mode: str) -> str:
    with enter_tenant(tenant.id):
        agent = factories.create_agent(prompt=f"mode: {mode}")
        return call_address(gateway.url, issue_ticket(agent, channel=Call.Channel.TELEPHONE))


@sync_to_async
def only_call(tenant: Tenant) -> Call:
    with enter_tenant(tenant.id):
        return Call.objects.get()


async def ended_call(tenant: Tenant) -> Call:
    async def has_ended() -> bool:
        return (await only_call(tenant)).status == "ended"

    async with asyncio.timeout(10):
        while not await has_ended():
            await asyncio.sleep(0.02)
    return await only_call(tenant)


@contextlib.asynccontextmanager
async def held(bridge: Bridge) -> AsyncIterator[asyncio.Task[Ending]]:
    task = asyncio.create_task(bridge.hold())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def ready(bridge: Bridge) -> None:
    await until(lambda: bridge.call_id is not None, what="the agent's answer")


async def test_both_hear_each_other_and_a_caller_who_hangs_up_ends_the_call(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    telephone, record = Telephone(), Record()
    bridge = Bridge(telephone, await address_of(gateway, acme, "whistle"), record)
    async with held(bridge) as holding:
        await ready(bridge)
        await until(lambda: telephone.loud_seconds > 0.5, what="the greeting")
        greeting_seconds = telephone.loud_seconds
        await telephone.say(TONE)
        await telephone.be_silent(0.8)
        await until(lambda: telephone.loud_seconds > 2 * greeting_seconds - 0.1, what="the answer")
        telephone.put_down()
        assert await holding == Ending(EndKind.CALLER_HUNG_UP)
    call = await ended_call(acme)
    assert (call.id, call.channel, call.end_reason) == (record.call_id, "telephone", "caller_hung_up")
    assert call.close_code == CloseCode.NORMAL and call.turns_count == 1
    assert record.endings == [Ending(EndKind.CALLER_HUNG_UP)]
    figures = record.figures
    assert figures is not None and figures.codec == "PCMU"
    assert figures.packets_received == 90 and figures.packets_lost == figures.packets_late == 0
    assert figures.bridge_ms_p50 is not None and figures.bridge_ms_p50 < 20


async def test_sound_goes_there_and_back_with_little_delay(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    telephone = Telephone()
    bridge = Bridge(telephone, await address_of(gateway, acme, "echo"), Record())
    async with held(bridge):
        await ready(bridge)
        await telephone.be_silent(0.3)
        said_at = asyncio.get_running_loop().time()
        await telephone.say(TONE)
        await until(lambda: telephone.loud_seconds > 0.9, what="the echo")
        first = next(at for at, frame in telephone.heard if np.abs(frame).max() > 0.1)
        # Both transcoders, the gateway twice, and the frame's own 20 ms; with room for a busy machine.
        assert first - said_at < 0.15
        heard = np.concatenate([frame for _, frame in telephone.heard])
        spectrum = np.abs(np.fft.rfft(heard))
        assert abs(np.argmax(spectrum) * RATE_HZ / len(heard) - 330) < 5
        telephone.put_down()


async def test_an_agent_who_hangs_up_ends_the_telephone_call(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    telephone, record = Telephone(), Record()
    bridge = Bridge(telephone, await address_of(gateway, acme, "part"), record)
    async with held(bridge) as holding:
        await ready(bridge)
        await telephone.be_silent(0.1)
        assert await holding == Ending(EndKind.AGENT_HUNG_UP)
    assert telephone.hung_up and telephone.transferred_to is None


@pytest.mark.parametrize("refuses", [False, True], ids=["and is put through", "and hears nobody"])
async def test_a_caller_whom_the_agent_hands_over_is_put_through_once_its_words_were_heard(
    gateway: GatewayProcess, acme: Tenant, place: Any, refuses: bool
) -> None:
    telephone, record = Telephone(refuses_transfer=refuses), Record(transfer_to="+14155550199")
    bridge = Bridge(telephone, await address_of(gateway, acme, "hand_over"), record)
    async with held(bridge) as holding:
        ending = await holding
    if refuses:
        assert ending == Ending(EndKind.AGENT_HUNG_UP) and telephone.hung_up
        assert [each.kind for each in record.endings] == [EndKind.TRANSFERRED, EndKind.AGENT_HUNG_UP]
    else:
        assert ending == Ending(EndKind.TRANSFERRED, transferred_to="+14155550199")
        assert telephone.transferred_to == "+14155550199" and not telephone.hung_up


async def test_an_interruption_silences_what_the_carrier_holds(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    telephone = Telephone()
    bridge = Bridge(telephone, await address_of(gateway, acme, "interrupted"), Record())
    async with held(bridge):
        await ready(bridge)
        telephone.clears.clear()
        await telephone.be_silent(0.1)
        await until(lambda: telephone.clears, what="the carrier's order to forget")
        telephone.put_down()


async def test_keys_reach_the_worker_and_other_signs_do_not(
    gateway: GatewayProcess, acme: Tenant, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path, mode="echo") as (port, log, _):

        @sync_to_async
        def deploy() -> None:
            with enter_tenant(acme.id):
                factories.create_deployment(port=port)

        await deploy()
        telephone = Telephone()
        bridge = Bridge(telephone, await address_of(gateway, acme, "echo"), Record())
        async with held(bridge):
            await ready(bridge)
            telephone.press("4x1#")
            await telephone.be_silent(0.3)
            telephone.put_down()
            await ended_call(acme)
        received = [json.loads(line) for line in log.read_text().splitlines()]
        assert [each["text"] for each in received if each.get("kind") == 16] == ["4", "1", "#"]


async def test_a_caller_hears_ringing_until_the_agent_is_there_and_is_told_when_there_is_none(
    gateway: GatewayProcess, acme: Tenant, place: Any
) -> None:
    telephone, record = Telephone(), Record()
    bridge = Bridge(telephone, await address_of(gateway, acme, "silent"), record)  # never answers the gateway
    async with held(bridge) as holding:
        assert await holding == Ending(EndKind.REFUSED, CloseCode.WORKER_TIMED_OUT)
    assert telephone.loud_seconds > 0.3 and telephone.hung_up
    assert record.call_id is None


async def test_a_ticket_that_was_used_is_refused(gateway: GatewayProcess, acme: Tenant, place: Any) -> None:
    telephone = Telephone()
    ending = await Bridge(telephone, call_address(gateway.url, "used"), Record()).hold()
    assert ending == Ending(EndKind.REFUSED, CloseCode.TICKET_UNKNOWN) and telephone.hung_up


async def test_without_a_gateway_the_call_ends_and_says_so() -> None:
    telephone = Telephone()
    ending = await Bridge(telephone, "ws://127.0.0.1:9/call/any/api/chat", Record()).hold()
    assert ending == Ending(EndKind.REFUSED, CloseCode.TRY_AGAIN_LATER) and telephone.hung_up
