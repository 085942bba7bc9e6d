"""Calls over SIP and RTP: Debian's baresip as the caller, sipp as a crowd, and a peer that keeps no rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers.baresip import Baresip
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.telephony.sip_peers import NUMBER, SipTelephony, baresip, beeps, loud_seconds
from tests.voice.telephony.test_twilio import finished
from voice.telephony import numbers

Answers = Callable[..., None]


@pytest.fixture(scope="module")
def sip(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SipTelephony]:
    telephony = SipTelephony(tmp_path_factory.mktemp("sip"), gateway_url=gateway.url)
    yield telephony
    telephony.process.stop()


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baresip]:
    """Somebody who beeps a second after being answered, and says nothing more for a minute."""
    with baresip(tmp_path_factory.mktemp("caller") / "caller", beeps(1.0)) as telephone:
        yield telephone


@pytest.fixture
def answers(sip: SipTelephony, acme: Tenant, alice: User, place: Any) -> Answers:
    """A function that connects a number of acme's to an agent that the scripted worker plays in the mode given."""

    def connect(mode: str = "whistle", **settings: Any) -> None:
        with enter_tenant(acme.id):
            agent = factories.create_agent(prompt=f"mode: {mode}", tools=("hand_off",))
            numbers.add_number(number=NUMBER, carrier="sip", agent=agent, settings=settings, hours={}, actor=alice)

    return connect


def test_a_caller_talks_and_hangs_up(sip: SipTelephony, caller: Baresip, acme: Tenant, answers: Answers) -> None:
    answers("whistle")
    caller.dial(NUMBER, at=sip.sip_port)
    caller.wait_for("CALL_ESTABLISHED")
    time.sleep(3.5)
    caller.tell("hangup")
    leg = finished(acme)
    assert (leg.status, leg.end_kind, leg.codec) == ("completed", "caller_hung_up", "PCMU")
    assert leg.packets_received and leg.packets_received > 100
    assert leg.packets_lost == leg.packets_late == leg.frames_concealed == 0
    assert leg.call is not None and (leg.call.channel, leg.call.turns_count) == ("telephone", 1)
    assert loud_seconds(caller.heard()) > 1
