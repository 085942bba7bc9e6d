"""What SIP callers are told where no agent tells them: spoken once when a number is saved, and played by telephony."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ as HEARING_RATE_HZ
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.protocol import CloseCode
from provisioning.models import CostEntry
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers.baresip import Baresip
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import running
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import NUMBER, PlainPeer, SipTelephony, baresip, beeps
from tests.voice.telephony.test_booking import words_of
from voice.telephony import clips, numbers, words
from voice.telephony.bridge import EndKind
from voice.telephony.g711 import RATE_HZ
from voice.telephony.lines import leg_record
from voice.telephony.models import SpokenSentence

CLOSED = "We are closed today. Please call again tomorrow."
NEVER = {0: [(datetime.time(3, 0), datetime.time(3, 0, 1))]}


@pytest.fixture(scope="module")
def sip(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SipTelephony]:
    telephony = SipTelephony(
        tmp_path_factory.mktemp("sip"), gateway_url=gateway.url, SIP_NANO_DOLLARS_PER_MINUTE="7000000"
    )
    with running(telephony.process):
        yield telephony


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Baresip]:
    with baresip(tmp_path / "caller", beeps()) as telephone:
        yield telephone


@pytest.fixture
def number(acme: Tenant, alice: User) -> Any:
    """A function that takes acme's number into service and has its words spoken."""

    def take(mode: str = "whistle", *, hours: Any = None, **settings: Any) -> None:
        with enter_tenant(acme.id):
            agent = factories.create_agent(prompt=f"mode: {mode}", tools=("hand_off",))
            numbers.add_number(
                number=NUMBER, carrier="sip", agent=agent, settings=settings, hours=hours or {}, actor=alice
            )
        clips.make_clips(tenant_id=str(acme.id))

    return take


def understood(caller: Baresip) -> set[str]:
    sound = soxr.resample(caller.heard(), RATE_HZ, HEARING_RATE_HZ).astype(np.float32)
    return set(words_of(Moonshine().transcribe(sound)))


def test_a_caller_outside_the_hours_hears_the_numbers_message(
    sip: SipTelephony, caller: Baresip, acme: Tenant, number: Any
) -> None:
    number(hours=NEVER, outside_message=CLOSED)
    caller.dial(NUMBER, at=sip.sip_port)
    caller.wait_for("CALL_ESTABLISHED")
    caller.wait_for("CALL_CLOSED", within_seconds=20)
    leg = finished(acme)
    assert (leg.status, leg.problem, leg.call) == ("completed", CLOSED, None)
    assert leg.answered_at is not None and 1 <= (leg.carrier_seconds or 0) <= 10
    with enter_tenant(acme.id):
        (minute,) = CostEntry.objects.all()  # a minute begun
        assert (minute.nano_dollars, minute.part, minute.call_id) == (7_000_000, "telephony", None)
        assert leg_record(leg)["cost_nano_dollars"] == 7_000_000
    assert len(understood(caller) & set(words_of(CLOSED))) >= 6


def test_a_caller_for_whom_there_is_no_agent_is_told_that_all_lines_are_busy(
    sip: SipTelephony, caller: Baresip, acme: Tenant, number: Any
) -> None:
    number()  # nothing runs that could talk
    caller.dial(NUMBER, at=sip.sip_port)
    caller.wait_for("CALL_ESTABLISHED")
    caller.wait_for("CALL_CLOSED", within_seconds=30)
    leg = finished(acme)
    assert leg.end_kind == EndKind.REFUSED
    told = words.after(leg.end_kind, leg.close_code)
    assert told is not None and len(understood(caller) & set(words_of(told))) >= 6


def test_a_caller_whom_nobody_takes_over_is_told_that_somebody_calls_back(
    sip: SipTelephony, caller: Baresip, acme: Tenant, place: Any, number: Any
) -> None:
    number("hand_over", forwards_to="sip:nobody@127.0.0.1:9")
    caller.dial(NUMBER, at=sip.sip_port)
    caller.wait_for("CALL_ESTABLISHED")
    caller.wait_for("CALL_CLOSED", within_seconds=40)
    leg = finished(acme)
    assert (leg.end_kind, leg.transferred_to) == (EndKind.AGENT_HUNG_UP, "")
    assert len(understood(caller) & set(words_of(words.NOBODY))) >= 8


def test_a_caller_who_hangs_up_during_the_words_ends_them(sip: SipTelephony, acme: Tenant, number: Any) -> None:
    number(hours=NEVER, outside_message=CLOSED)
    with PlainPeer(sip.sip_port) as peer:
        assert peer.call().status == 200
        assert peer.ask("BYE").status == 200
    assert finished(acme).carrier_seconds == 1


def test_words_are_spoken_once_and_those_that_nobody_needs_are_forgotten(
    acme: Tenant, rival: Tenant, alice: User, number: Any
) -> None:
    number(outside_message=CLOSED)
    with enter_tenant(acme.id):
        first = clips.find_clip(CLOSED)
        assert first is not None and first.startswith(b"OggS")
        assert all(clips.find_clip(each) for each in words.ALL)
        assert clips.find_clip("Something else.") is None
    assert clips.make_clips(tenant_id=str(acme.id)) == 0 and clips.sweep_clips() == 0
    with enter_tenant(rival.id):
        assert clips.find_clip(CLOSED) is None and not SpokenSentence.objects.exists()

    with enter_tenant(acme.id):
        (found,) = numbers.TelephoneNumber.objects.all()
        found.outside_message = ""
        found.save()
    assert clips.sweep_clips() == 1
    assert clips.make_clips(tenant_id=str(acme.id)) == 1  # its own sentence of being closed
    with enter_tenant(acme.id):
        assert clips.find_clip(CLOSED) is None
        assert clips.find_clip(f"{acme.name} is closed at the moment. Please call again later.")
        numbers.remove_number(number=found, actor=alice)
    assert clips.sweep_clips() == 1
    clips.make_clips(tenant_id=str(acme.id))
    with enter_tenant(acme.id):
        assert not SpokenSentence.objects.exists()


@pytest.mark.parametrize(
    ("kind", "code", "sentence"),
    [
        (EndKind.REFUSED, CloseCode.TENANT_BUSY, words.BUSY),
        (EndKind.REFUSED, CloseCode.INTERNAL_ERROR, words.SORRY),
        (EndKind.LOST, CloseCode.INTERNAL_ERROR, words.SORRY),
        (EndKind.LOST, CloseCode.TIME_LIMIT, None),  # the agent said so
        (EndKind.TRANSFERRED, CloseCode.NORMAL, words.NOBODY),
        (EndKind.CALLER_HUNG_UP, CloseCode.NORMAL, None),
    ],
)
def test_what_is_said_follows_from_how_the_call_ended(kind: EndKind, code: int, sentence: str | None) -> None:
    assert words.after(kind, code) == sentence
