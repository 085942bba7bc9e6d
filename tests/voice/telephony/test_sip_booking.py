"""An appointment booked over SIP by a real telephone, and words over Opus, with every real part behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from agents.models import Appointment
from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ as HEARING_RATE_HZ
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.protocol import SAMPLE_RATE_HZ
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers.baresip import Baresip, Samples
from tests.gpu_workers.speech import speak
from tests.voice.processes import running
from tests.voice.supervised import supervisor_with_a_pool
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import NUMBER, SipTelephony, baresip, beeps
from tests.voice.telephony.test_booking import words_of
from tests.voice.test_conversation import publish_salon
from tests.web.web_process import WebProcess
from voice.records import call_record, find_call
from voice.telephony import numbers
from voice.telephony.g711 import RATE_HZ


@pytest.fixture
def exchange(
    acme: Tenant, alice: User, own_gateway: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SipTelephony]:
    """A telephony process, and behind it all that answers a number of acme's as a hairdresser's."""
    agent = publish_salon(acme)
    with enter_tenant(acme.id):
        numbers.add_number(number=NUMBER, carrier="sip", agent=agent, settings={}, hours={}, actor=alice)
    with supervisor_with_a_pool(acme, tmp_path, monkeypatch) as reached:
        web = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1")
        with running(web.process):
            gateway = own_gateway(
                **reached, INTERNAL_URL=web.url, GATEWAY_HANDSHAKE_SECONDS="20", GATEWAY_CALLER_SILENCE_SECONDS="60"
            )
            sip = SipTelephony(tmp_path, gateway_url=gateway.url)
            with running(sip.process):
                yield sip


def say(caller: Baresip, words: str) -> None:
    caller.say(np.concatenate([soxr.resample(speak(words), SAMPLE_RATE_HZ, RATE_HZ), beeps()]))
    caller.listen(0.8)


def assert_understood(heard: Samples, transcript: list[dict[str, Any]], *, seconds: int) -> None:
    """Assert that the end of what a caller heard is speech: our own ears find the agent's last words in it."""
    end = int(np.flatnonzero(np.abs(heard) > 0.05)[-1])
    last = soxr.resample(heard[max(0, end - seconds * RATE_HZ) : end + RATE_HZ // 2], RATE_HZ, HEARING_RATE_HZ)
    understood = words_of(Moonshine().transcribe(last.astype(np.float32)))
    agent_said = [line["text"] for line in transcript if line["role"] == "agent"]
    assert len(set(understood) & set(words_of(agent_said[-1]))) >= 4, (understood, agent_said)


def test_a_caller_books_an_appointment_over_sip(exchange: SipTelephony, acme: Tenant, tmp_path: Path) -> None:
    sayings = ["I would like to book a haircut.", "Next Thursday at three in the afternoon, please.", "Dora Miller."]
    with baresip(tmp_path / "caller", beeps()) as caller:
        caller.dial(NUMBER, at=exchange.sip_port)
        caller.wait_for("CALL_ESTABLISHED")
        caller.listen(0.8)
        for words in sayings:
            say(caller, words)
        for digit in "4155550123#":
            caller.tell("sndcode", digit)
        caller.listen(0.8)
        say(caller, "Yes, please.")
        caller.tell("hangup")
        leg = finished(acme)
        heard = caller.heard()

    with enter_tenant(acme.id):
        record = call_record(find_call(leg.call_id))
        transcript = " / ".join(line["text"] for line in record["transcript"])
        (appointment,) = Appointment.objects.all()
        assert appointment.service.name == "haircut", transcript
        assert appointment.contact.phone == "+14155550123" and appointment.contact.name == "Dora Miller", transcript
    callers = " ".join(line["text"] for line in record["transcript"] if line["role"] == "caller").lower()
    assert "haircut" in callers and "thursday" in callers and "(keyed) 4155550123#" in callers
    assert_understood(heard, record["transcript"], seconds=5)


def test_a_caller_and_an_agent_understand_each_other_over_opus(
    exchange: SipTelephony, acme: Tenant, tmp_path: Path
) -> None:
    with baresip(tmp_path / "caller", beeps(), codec="PCMU/8000,opus/48000/2") as caller:
        caller.dial(NUMBER, at=exchange.sip_port)
        caller.wait_for("CALL_ESTABLISHED")
        caller.listen(0.8)
        say(caller, "I would like to book a haircut.")
        caller.tell("hangup")
        leg = finished(acme)
        heard = caller.heard()
    assert (leg.codec, leg.packets_lost, leg.peer_packets_lost) == ("opus", 0, 0)
    with enter_tenant(acme.id):
        record = call_record(find_call(leg.call_id))
    callers = " ".join(line["text"] for line in record["transcript"] if line["role"] == "caller").lower()
    assert "haircut" in callers, record["transcript"]
    assert_understood(heard, record["transcript"], seconds=10)
