"""An appointment booked over a simulated Twilio stream, with every real part: supervisor, worker, gateway and web."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from django.conf import settings

from agents.models import Appointment
from content.models import ToolRun
from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ as HEARING_RATE_HZ
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.protocol import SAMPLE_RATE_HZ
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.carriers import twilio as stand_in
from tests.gpu_workers.speech import speak
from tests.ports import free_port
from tests.voice.processes import running, wait_until
from tests.voice.supervised import supervisor_with_a_pool
from tests.voice.telephony.processes import (
    CALLER,
    NUMBER,
    CarrierProcess,
    TelephonyProcess,
    write_ulaw,
)
from tests.voice.test_conversation import publish_salon
from tests.web.web_process import WebProcess
from voice.records import call_record, find_call
from voice.telephony import numbers
from voice.telephony.g711 import RATE_HZ
from voice.telephony.models import TelephoneLeg


@pytest.fixture
def twilio(
    acme: Tenant, alice: User, own_gateway: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CarrierProcess]:
    """A Twilio whose number leads to acme's salon, on a warm worker."""
    agent, port = publish_salon(acme), free_port()
    twilio = CarrierProcess(tmp_path)
    with running(twilio.process), supervisor_with_a_pool(acme, tmp_path, monkeypatch) as reached:
        web = WebProcess(
            tmp_path,
            gateway_url="ws://127.0.0.1:1",
            more={"TWILIO_URL": twilio.url, "TELEPHONY_URL": f"ws://127.0.0.1:{port}"},
        )
        monkeypatch.setattr(settings, "TWILIO_URL", twilio.url)
        monkeypatch.setattr(settings, "TELEPHONY_WEBHOOK_URL", web.url)
        with running(web.process):
            gateway = own_gateway(
                **reached, INTERNAL_URL=web.url, GATEWAY_HANDSHAKE_SECONDS="20", GATEWAY_CALLER_SILENCE_SECONDS="60"
            )
            with running(TelephonyProcess(tmp_path, gateway_url=gateway.url, port=port).process):
                with enter_tenant(acme.id):
                    numbers.save_account(carrier="twilio", actor=alice, **stand_in.CREDENTIALS)
                    numbers.add_number(number=NUMBER, carrier="twilio", agent=agent, settings={}, hours={}, actor=alice)
                yield twilio


def test_a_caller_books_an_appointment_by_telephone(twilio: CarrierProcess, acme: Tenant, tmp_path: Path) -> None:
    def said(words: str) -> dict[str, str]:
        sound = soxr.resample(speak(words), SAMPLE_RATE_HZ, RATE_HZ)
        return {"say": write_ulaw(tmp_path / f"{words[:12]}.ulaw", sound)}

    hears = {"hear": 0.8}
    sid = twilio.call(
        hears,
        said("I would like to book a haircut."),
        hears,
        said("Next Thursday at three in the afternoon, please."),
        hears,
        said("My name is Dora Miller."),
        hears,
        {"keys": "4155550123#"},  # better keyed than spoken
        hears,
        said("Yes, please."),
        hears,
        {"hang_up": True},
    )
    seen = twilio.end_of(sid, within_seconds=150)

    def is_over() -> bool:
        with enter_tenant(acme.id):
            leg = TelephoneLeg.objects.select_related("call").get()
            return leg.call is not None and leg.call.status == "ended" and bool(leg.carrier_seconds)

    wait_until(is_over, what="the end of the call")
    with enter_tenant(acme.id):
        leg = TelephoneLeg.objects.get()
        record = call_record(find_call(leg.call_id))
        transcript = " / ".join(line["text"] for line in record["transcript"])
        (appointment,) = Appointment.objects.all()
        assert appointment.service.name == "haircut", transcript
        assert appointment.contact.phone == "+14155550123" and appointment.contact.name == "Dora Miller", transcript
        (run,) = ToolRun.objects.filter(name="book_appointment")
        assert run.ok and run.call_id == leg.call_id
    callers = " ".join(line["text"] for line in record["transcript"] if line["role"] == "caller").lower()
    assert "haircut" in callers and "thursday" in callers and "(keyed) 4155550123#" in callers
    assert record["channel"] == "telephone" and len(record["turns"]) == 6
    assert (leg.other_number, leg.end_kind, leg.codec) == (CALLER, "caller_hung_up", "PCMU")
    assert {part["part"] for part in record["cost"]["parts"]} >= {"active", "telephony"}

    # What the caller heard is speech: our own ears understand the end of it.
    assert seen["loud_seconds"] > 5
    heard = twilio.heard(sid)
    end = int(np.flatnonzero(np.abs(heard) > 0.05)[-1])
    last = soxr.resample(heard[end - 5 * RATE_HZ : end + RATE_HZ // 2], RATE_HZ, HEARING_RATE_HZ).astype(np.float32)
    understood = words_of(Moonshine().transcribe(last))
    agent_said = [line["text"] for line in record["transcript"] if line["role"] == "agent"]
    assert len(set(understood) & set(words_of(agent_said[-1]))) >= 4, (understood, agent_said)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
