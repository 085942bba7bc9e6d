"""What numbers do whoever their carrier is, over a simulated Twilio: hours, busy lines, a process that stops."""

from __future__ import annotations

import asyncio
import datetime
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from agents.models import HandOff
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.telephony.conftest import Connect, Exchange
from tests.voice.telephony.legs import finished, the_leg
from tests.voice.telephony.processes import CALLER, NUMBER, CarrierProcess, TelephonyProcess
from tests.voice.telephony.telephones import Telephone
from voice.telephony.bridge import Ending, EndKind
from voice.telephony.models import TelephoneLeg
from voice.telephony.records import StoredLeg
from voice.telephony.routing import grant
from voice.telephony.serving import Limits, Telephony

ALL_DAY = {weekday: [(datetime.time(0, 0), datetime.time(23, 59, 59))] for weekday in range(7)}


def test_callers_are_told_when_all_lines_are_busy(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    _, agent = number_of("whistle")
    with enter_tenant(acme.id):
        for _ in range(100):
            factories.create_call(agent=agent)
    seen = twilio.end_of(twilio.call({"stay": True}))
    assert "busy" in seen["spoken"][0]
    assert finished(acme).end_kind == "refused"


def test_outside_its_hours_a_number_says_so_or_has_another_agent(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    never = {0: [(datetime.time(3, 0), datetime.time(3, 0, 1))]}
    number, _ = number_of("whistle", hours=never, outside_message="We are closed.")
    assert twilio.end_of(twilio.call())["spoken"] == ["We are closed."]
    with enter_tenant(acme.id):
        night = factories.create_agent(slug="night", prompt="mode: whistle")
        number.outside, number.outside_agent = "agent", night
        number.save()
    sid = twilio.call({"hear": 0.3}, {"hang_up": True})
    twilio.end_of(sid)
    leg = finished(acme, carrier_ref=sid)
    assert leg.call is not None and leg.call.agent_id == night.id


def test_in_its_hours_a_number_has_its_agent(
    twilio: CarrierProcess, acme: Tenant, place: Any, number_of: Connect
) -> None:
    number_of("whistle", hours=ALL_DAY)
    assert twilio.end_of(twilio.call({"hear": 0.3}, {"hang_up": True}))["spoken"] == []


def test_an_agent_without_a_version_is_not_in_service(twilio: CarrierProcess, acme: Tenant, number_of: Connect) -> None:
    _, agent = number_of("whistle")
    with enter_tenant(acme.id):
        agent.live_version = None
        agent.save()
    assert "not in service" in twilio.end_of(twilio.call())["spoken"][0]


def test_a_process_that_is_stopped_lets_its_calls_end_and_writes_how(
    gateway: GatewayProcess, acme: Tenant, place: Any, number_of: Connect, tmp_path: Path
) -> None:
    _, agent = number_of("whistle")
    telephony = TelephonyProcess(tmp_path, gateway_url=gateway.url, TELEPHONY_DRAIN_SECONDS="0.5")
    with enter_tenant(acme.id):
        granted = grant(TelephoneLeg.objects.create(carrier="twilio", our_number=NUMBER), agent)
    parameters = {"leg": granted.leg_token, "ticket": granted.ticket}
    start = {"streamSid": "MZ1", "callSid": "CA1", "customParameters": parameters}
    with connect(f"{telephony.url}/twilio", compression=None, proxy=None) as stream:
        stream.send(json.dumps({"event": "connected"}))
        stream.send(json.dumps({"event": "start", "start": start}))
        assert json.loads(stream.recv(timeout=10))["streamSid"] == "MZ1"
        telephony.process.child.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            while True:
                stream.recv(timeout=10)
    assert telephony.process.child.wait(15) == 0
    telephony.process.stop()
    leg = the_leg(acme)
    assert (leg.end_kind, leg.close_code, leg.codec) == ("lost", 1001, "PCMU")


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_second_stream_of_a_leg_leaves_the_first_alone(
    gateway: GatewayProcess, acme: Tenant, place: Any, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(settings, "TELEPHONY_GATEWAY_URL", gateway.url)
    telephonies = [Telephony(Limits(max_calls=4, drain_seconds=1)) for _ in range(processes)]

    @sync_to_async
    def ring() -> tuple[uuid.UUID, str]:
        with enter_tenant(acme.id):
            agent = factories.create_agent(prompt="mode: whistle")
            leg = TelephoneLeg.objects.create(carrier="twilio", our_number=NUMBER)
            return leg.pk, grant(leg, agent).ticket

    leg_id, ticket = await ring()
    leg_now = sync_to_async(the_leg)

    def hold(telephony: Telephony, telephone: Telephone) -> asyncio.Task[Ending | None]:
        return asyncio.create_task(telephony.hold(telephone, StoredLeg(acme.id, leg_id), ticket))

    async def is_talking() -> None:
        async with asyncio.timeout(20):
            while (await leg_now(acme)).call is None:
                await asyncio.sleep(0.02)

    first, second = Telephone(), Telephone()
    holding = hold(telephonies[0], first)
    if processes == 2:  # which know of each other by the database alone
        await is_talking()
    async with asyncio.timeout(20):
        refused = await hold(telephonies[-1], second)
    assert (refused and refused.kind) == (EndKind.REFUSED if processes == 2 else None) and second.hung_up
    await is_talking()
    assert (await leg_now(acme)).end_kind == "" and telephonies[0].calls == 1
    first.put_down()
    async with asyncio.timeout(20):
        ending = await holding
    assert ending is not None and ending.kind is EndKind.CALLER_HUNG_UP
    assert (await leg_now(acme)).end_kind == "caller_hung_up" and telephonies[0].calls == 0


def test_an_unknown_carrier_is_let_go(exchange: Exchange) -> None:
    with (
        connect(f"{exchange[1].url}/nobody", compression=None, proxy=None) as stranger,
        pytest.raises(ConnectionClosed),
    ):
        stranger.recv(timeout=5)


def test_a_hand_over_leaves_a_note_for_the_tenant_too(acme: Tenant) -> None:
    """The tool's own test is tests/agents/test_leaving_word.py; here: it knows that a person can be reached."""
    from agents.tools import ToolContext, run_tool

    with enter_tenant(acme.id):
        agent = factories.create_agent()
        context = ToolContext(
            tenant_id=acme.id,
            agent=agent,
            call_id=None,
            turn_index=1,
            now=datetime.datetime.now(datetime.UTC),
            caller_number=CALLER,
            puts_through=True,
        )
        result = run_tool("hand_off", {"reason": "Wants a person."}, context)
        assert result.ok and result.result is not None and result.result["puts_through"] is True
        (note,) = HandOff.objects.all()
        assert note.contact is not None and note.contact.phone == CALLER
