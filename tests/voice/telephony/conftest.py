"""A telephone exchange that tests share, and a tenant with a number at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings

from agents.models import Agent
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers import twilio as stand_in
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.telephony.processes import NUMBER, TelephonyProcess, TwilioProcess, telephone_exchange
from tests.web.web_process import WebProcess
from voice.telephony import numbers
from voice.telephony.models import TelephoneNumber

Exchange = tuple[TwilioProcess, TelephonyProcess, WebProcess]


@pytest.fixture(scope="session")
def exchange(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with telephone_exchange(tmp_path_factory.mktemp("exchange"), gateway_url=gateway.url) as found:
        yield found


@pytest.fixture
def twilio(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> TwilioProcess:
    """The stand-in, as this process's own calls of the SDK reach it too."""
    process, _, web = exchange
    monkeypatch.setattr(settings, "TWILIO_URL", process.url)
    monkeypatch.setattr(settings, "TELEPHONY_WEBHOOK_URL", web.url)
    return process


@pytest.fixture
def number_of(twilio: TwilioProcess, acme: Tenant, alice: User) -> Callable[..., tuple[TelephoneNumber, Agent]]:
    """A function that connects acme's number to an agent that the scripted worker plays in the mode given."""

    def connect(mode: str = "whistle", *, agent: Agent | None = None, hours: Any = None, **settings: Any) -> Any:
        with enter_tenant(acme.id):
            agent = agent or factories.create_agent(prompt=f"mode: {mode}", tools=("hand_off",))
            numbers.save_account(account_ref=stand_in.ACCOUNT, token=stand_in.TOKEN, actor=alice)
            number = numbers.add_number(
                number=NUMBER, carrier="twilio", agent=agent, settings=settings, hours=hours or {}, actor=alice
            )
            return number, agent

    return connect
