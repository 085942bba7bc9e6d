"""A telephone exchange that tests share, and a tenant with a number at it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings

from agents.models import Agent
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers.baresip import Baresip
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import running
from tests.voice.telephony import sip_peers
from tests.voice.telephony.processes import (
    NUMBER,
    STAND_INS,
    CarrierProcess,
    Carriers,
    TelephonyProcess,
    telephone_exchange,
)
from tests.voice.telephony.sip_peers import Answers, SipTelephony, baresip, beeps
from tests.voice.telephony.stream_peers import Certificate
from tests.web.web_process import WebProcess
from voice.telephony import numbers, outbound
from voice.telephony.models import TelephoneLeg, TelephoneNumber

ALWAYS = {"calls_from": datetime.time(0), "calls_until": datetime.time(23, 59, 59), "weekdays": []}
"""Hours in which agents may call."""
Exchange = tuple[Carriers, TelephonyProcess, WebProcess]
Connect = Callable[..., tuple[TelephoneNumber, Agent]]
"""Connects acme's number at a carrier to an agent: the fixture `number_of`."""


@pytest.fixture(scope="session")
def exchange(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with telephone_exchange(tmp_path_factory.mktemp("exchange"), gateway_url=gateway.url) as found:
        yield found


@pytest.fixture(autouse=True)
def numbers_are_confirmed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a SIP number ring as it is added. tests/web/test_number_confirmation.py is about those that wait."""
    monkeypatch.setattr(settings, "SIP_NUMBERS_NEED_CONFIRMATION", False)


@pytest.fixture
def carrier() -> str:
    """Whose number acme has; a test is parametrised by it where all carriers are to do the same."""
    return "twilio"


@pytest.fixture
def peer(exchange: Exchange, carrier: str, monkeypatch: pytest.MonkeyPatch) -> CarrierProcess:
    """The carrier's stand-in, as this process's own requests reach it too."""
    carriers, _, web = exchange
    process = carriers.get(carrier)
    monkeypatch.setattr(settings, *process.setting)
    monkeypatch.setattr(settings, "TELEPHONY_WEBHOOK_URL", web.url)
    return process


@pytest.fixture
def twilio(peer: CarrierProcess) -> CarrierProcess:
    assert peer.carrier == "twilio"
    return peer


@pytest.fixture
def number_of(peer: CarrierProcess, acme: Tenant, alice: User) -> Connect:
    """A function that connects acme's number to an agent that the scripted worker plays in the mode given."""

    def connect(mode: str = "whistle", *, agent: Agent | None = None, hours: Any = None, **settings: Any) -> Any:
        with enter_tenant(acme.id):
            agent = agent or factories.create_agent(prompt=f"mode: {mode}", tools=("hand_off",))
            numbers.save_account(carrier=peer.carrier, actor=alice, **STAND_INS[peer.carrier].CREDENTIALS)
            number = numbers.add_number(
                number=NUMBER, carrier=peer.carrier, agent=agent, settings=settings, hours=hours or {}, actor=alice
            )
            return number, agent

    return connect


@pytest.fixture
def placed(peer: CarrierProcess, acme: Tenant, alice: User, number_of: Any) -> Callable[..., TelephoneLeg]:
    """A function that has an agent call somebody, and does what the task would."""

    def place(mode: str = "whistle", *, to: str = "+12125550177", **how: Any) -> TelephoneLeg:
        number, agent = number_of(mode)
        peer.answer_with(**{"steps": [{"stay": True}], "answered_by": "human", "status": "in-progress", **how})
        with enter_tenant(acme.id):
            outbound.agree_to_rules(**ALWAYS, actor=alice)
            leg = outbound.place_call(agent=agent, to=to, number=number, placed_by=alice)
        outbound.dial(tenant_id=str(acme.id), leg_id=str(leg.pk))
        return leg

    return place


@pytest.fixture
def connect(acme: Tenant, alice: User) -> Answers:
    """A function that connects a trunk's number to an agent that a scripted worker plays in the mode given."""

    def connect(mode: str = "whistle", hours: Any = None, **settings: Any) -> None:
        with enter_tenant(acme.id):
            agent = factories.create_agent(prompt=f"mode: {mode}", tools=("hand_off",))
            numbers.add_number(
                number=sip_peers.NUMBER, carrier="sip", agent=agent, settings=settings, hours=hours or {}, actor=alice
            )

    return connect


@pytest.fixture
def answers(place: Any, connect: Answers) -> Answers:
    """The same, with a worker."""
    return connect


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def sip(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SipTelephony]:
    telephony = SipTelephony(tmp_path_factory.mktemp("sip"), gateway_url=gateway.url)
    with running(telephony.process):
        yield telephony


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baresip]:
    """Somebody who beeps a second after being answered, and says nothing more for a minute."""
    with baresip(tmp_path_factory.mktemp("caller") / "caller", beeps(1.0)) as telephone:
        yield telephone
