"""What numbers do whoever their carrier is, over a simulated Twilio: hours, busy lines, a process that stops."""

from __future__ import annotations

import datetime
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from agents.models import HandOff
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import wait_until
from tests.voice.telephony.conftest import Exchange
from tests.voice.telephony.processes import CALLER, NUMBER, CarrierProcess, TelephonyProcess
from voice.telephony.models import TelephoneLeg
from voice.telephony.routing import grant

Connect = Callable[..., Any]
ALL_DAY = {weekday: [(datetime.time(0, 0), datetime.time(23, 59, 59))] for weekday in range(7)}


def the_leg(tenant: Tenant, **of: Any) -> TelephoneLeg:
    with enter_tenant(tenant.id):
        return TelephoneLeg.objects.select_related("call").get(**of)


def finished(tenant: Tenant, **of: Any) -> TelephoneLeg:
    """Wait until a leg and its call are over."""

    def is_over() -> bool:
        with enter_tenant(tenant.id):
            leg = TelephoneLeg.objects.select_related("call").filter(**of).first()
        return leg is not None and leg.is_finished and (leg.call is None or leg.call.status == "ended")

    wait_until(is_over, what="the end of the leg")
    return the_leg(tenant, **of)


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
