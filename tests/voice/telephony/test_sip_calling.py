"""Calls that agents place over a SIP trunk: baresip as who is called, and a trunk that keeps no rules."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import running, wait_until
from tests.voice.telephony.conftest import ALWAYS
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import (
    NUMBER,
    Answer,
    Answers,
    PlainPeer,
    SipTelephony,
    baresip,
    beeps,
    loud_seconds,
)
from tests.voice.telephony.stream_peers import Certificate
from voice.telephony import outbound
from voice.telephony.costs import cost_of
from voice.telephony.models import TelephoneLeg, TelephoneNumber

THEM = "+12125550188"
PASSWORD = "the-trunk-knows-it"
MINUTE_NANO_DOLLARS = 9_000_000


class Trunk(PlainPeer):
    """What takes our calls, and does as it is told."""

    def __init__(self) -> None:
        super().__init__(0)
        self.invite: Answer

    def expect(self, method: str, *, within_seconds: float = 5.0) -> Answer:
        """Return the next request of a method; what was sent again of others is passed over."""
        deadline = time.monotonic() + within_seconds
        while True:
            found = self.receive(within_seconds=max(0.01, deadline - time.monotonic()))
            if found.text.startswith(f"{method} "):
                return found

    def rung(self) -> Answer:
        self.invite = self.expect("INVITE")
        return self.invite

    def refuse(self, status: str, *more: str) -> Answer:
        """Refuse the call, and return the ACK of that."""
        self.reply(self._tagged, status, *more)
        return self.expect("ACK")

    def answer(self, **offer: Any) -> None:
        """Take the call."""
        names = ("via", "from", "to", "call-id", "cseq")
        lines = [line for line in self._tagged.text.split("\r\n") if line.partition(":")[0].lower() in names]
        body = self.offer(**offer)
        lines += [f"Contact: <sip:them@127.0.0.1:{self.port}>", "Content-Type: application/sdp"]
        self.send("\r\n".join(["SIP/2.0 200 OK", *lines, f"Content-Length: {len(body)}", "", body]).encode())

    @property
    def _tagged(self) -> Answer:
        return Answer(0, re.sub(r"^(To: .*?)\r?$", rf"\1;tag={self.tag}\r", self.invite.text, count=1, flags=re.M))


@pytest.fixture
def trunk() -> Iterator[Trunk]:
    with Trunk() as peer:
        yield peer


@pytest.fixture
def sip_over(
    gateway: GatewayProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SipTelephony]]:
    """A function that starts a telephony process which calls over a trunk."""
    processes = []

    def start(address: str, **more: str) -> SipTelephony:
        monkeypatch.setattr(settings, "SIP_TRUNK", address)
        given = {
            "SIP_TRUNK": address,
            "SIP_PASSWORDS": f"acme:{PASSWORD},pbx:unused",
            "SIP_RING_SECONDS": "2",
            "SIP_OUTBOUND_NANO_DOLLARS_PER_MINUTE": str(MINUTE_NANO_DOLLARS),
            **more,
        }
        sip = SipTelephony(tmp_path, gateway_url=gateway.url, **given)
        processes.append(sip.process)
        return sip

    yield start
    for process in processes:
        with running(process):
            pass


@pytest.fixture
def called(trunk: Trunk, sip_over: Callable[..., SipTelephony], call_out: Callable[[], TelephoneLeg]) -> TelephoneLeg:
    """A leg that rings at the trunk."""
    sip = sip_over(f"sip:acme@127.0.0.1:{trunk.port}")
    trunk.point_at(sip.sip_port)
    leg = call_out()
    trunk.rung()
    return leg


@pytest.fixture
def call_out(acme: Tenant, alice: User, answers: Answers) -> Callable[[], TelephoneLeg]:
    """A function that has an agent call somebody, and does what the task would."""

    def call() -> TelephoneLeg:
        answers("whistle")
        with enter_tenant(acme.id):
            outbound.agree_to_rules(**ALWAYS, actor=alice)
            number = outbound.numbers_to_call_from().get()
            leg = outbound.place_call(agent=number.agent, to=THEM, number=number, placed_by=alice)
        outbound.dial(tenant_id=str(acme.id), leg_id=str(leg.pk))
        return leg

    return call


@pytest.mark.parametrize(
    ("form", "encryption"),
    [
        ("sip:127.0.0.1:{port}", ""),
        ("sip:127.0.0.1:{tls};transport=tls", "srtp"),
        ("sips:127.0.0.1:{tls}", "srtp-mand"),
    ],
)
def test_an_agent_calls_a_telephone_and_they_talk(
    sip_over: Callable[..., SipTelephony],
    call_out: Callable[[], TelephoneLeg],
    acme: Tenant,
    tmp_path: Path,
    form: str,
    encryption: str,
) -> None:
    certificate = Certificate.make(tmp_path)
    how: dict[str, Any] = {"user": THEM, "account": ";answermode=auto"}
    if encryption:
        how["account"] += f";mediaenc={encryption}"
        how |= {"authorities": certificate.chain, "certificate": certificate.with_key}
    with baresip(tmp_path / "person", beeps(1.0), **how) as person:
        address = form.format(port=person.sip_port, tls=person.sip_port + 1)
        sip = sip_over(address, **(certificate.settings if encryption else {}))
        call_out()
        person.wait_for("CALL_ESTABLISHED")
        if encryption:
            assert "AES_CM_128_HMAC_SHA1_80" in person.wait_for("CALL_MENC")["param"]
        time.sleep(3.5)
        person.tell("hangup")
        leg = finished(acme)
        assert loud_seconds(person.heard()) > 1
    assert (leg.direction, leg.status, leg.end_kind, leg.codec) == ("outbound", "completed", "caller_hung_up", "PCMU")
    assert leg.ring_seconds is not None and leg.packets_received and leg.packets_received > 100
    assert leg.call is not None and (leg.call.channel, leg.call.turns_count) == ("telephone", 1)
    with enter_tenant(acme.id):
        assert leg.carrier_seconds and leg.carrier_seconds >= 3 and cost_of(leg) == MINUTE_NANO_DOLLARS
    assert sip.health()["calls"] == 0


def test_an_address_with_sips_is_called_with_encrypted_sound_or_not_at_all(
    sip_over: Callable[..., SipTelephony], call_out: Callable[[], TelephoneLeg], acme: Tenant, tmp_path: Path
) -> None:
    certificate = Certificate.make(tmp_path)
    with baresip(tmp_path / "person", beeps(), user=THEM, certificate=certificate.with_key) as person:
        sip_over(f"sips:127.0.0.1:{person.sip_port + 1}", **certificate.settings)
        call_out()
        leg = finished(acme)
    assert leg.status == "failed" and leg.problem.startswith("The trunk refused the call: 488")


def test_the_trunks_challenge_is_answered_and_says_who_calls(trunk: Trunk, called: TelephoneLeg, acme: Tenant) -> None:
    invite = trunk.invite
    assert invite.text.startswith(f"INVITE sip:{THEM}@127.0.0.1:{trunk.port} SIP/2.0")
    assert invite.header("From").startswith(f"<sip:{NUMBER}@127.0.0.1>;tag=")
    challenge = 'Digest realm="trunk", nonce="n0nce", algorithm=MD5, qop="auth"'
    ack = trunk.refuse("407 Proxy Authentication Required", f"Proxy-Authenticate: {challenge}")
    assert ack.header("Via") == invite.header("Via") and ack.header("To").endswith(f";tag={trunk.tag}")
    again = trunk.rung()
    assert again.header("Call-ID") == invite.header("Call-ID") and again.header("CSeq") == "2 INVITE"
    said = dict(re.findall(r'(\w+)="?([^",]*)"?', again.header("Proxy-Authorization").removeprefix("Digest ")))
    one = hashlib.md5(f"acme:trunk:{PASSWORD}".encode()).hexdigest()  # noqa: S324  (RFC 2617)
    two = hashlib.md5(f"INVITE:{said['uri']}".encode()).hexdigest()  # noqa: S324
    whole = f"{one}:n0nce:{said['nc']}:{said['cnonce']}:auth:{two}"
    assert said["response"] == hashlib.md5(whole.encode()).hexdigest()  # noqa: S324
    trunk.reply(trunk.invite, "180 Ringing")
    trunk.refuse("486 Busy Here")
    leg = finished(acme)
    assert (leg.pk, leg.status, leg.call, leg.carrier_seconds) == (called.pk, "busy", None, None)


@pytest.mark.parametrize(
    ("said", "status", "problem"),
    [
        ("480 Temporarily Unavailable", "no_answer", ""),
        ("603 Decline", "busy", ""),
        ("503 Service Unavailable", "failed", "The trunk refused the call: 503 Service Unavailable"),
        ("401 Unauthorized", "failed", "The trunk refused the call: 401 Unauthorized"),
    ],
)
def test_what_the_trunk_refuses_is_told(
    trunk: Trunk, called: TelephoneLeg, acme: Tenant, said: str, status: str, problem: str
) -> None:
    trunk.refuse(said)
    leg = finished(acme)
    assert (leg.status, leg.problem) == (status, problem)


def test_who_does_not_answer_is_rung_no_more(trunk: Trunk, called: TelephoneLeg, acme: Tenant) -> None:
    trunk.reply(trunk.invite, "180 Ringing")
    began = time.monotonic()
    cancel = trunk.expect("CANCEL")
    assert 1 < time.monotonic() - began
    assert cancel.header("Via") == trunk.invite.header("Via") and cancel.header("CSeq") == "1 CANCEL"
    trunk.reply(cancel, "200 OK")
    trunk.refuse("487 Request Terminated")
    assert finished(acme).status == "no_answer"


def test_who_answers_talks_and_hears_our_ack_again_where_it_was_lost(
    trunk: Trunk, called: TelephoneLeg, acme: Tenant
) -> None:
    for _ in range(2):
        trunk.answer()
        ack = trunk.expect("ACK")
        assert ack.text.startswith(f"ACK sip:them@127.0.0.1:{trunk.port}") and ack.header("CSeq") == "1 ACK"
    us = trunk.invite.header("From").rpartition("tag=")[2]
    trunk.call_id, trunk.their_tag = trunk.invite.header("Call-ID"), us
    assert trunk.ask("BYE").status == 200
    leg = finished(acme)
    assert (leg.status, leg.end_kind) == ("completed", "caller_hung_up")


def test_who_has_no_sound_in_common_is_hung_up_on(trunk: Trunk, called: TelephoneLeg, acme: Tenant) -> None:
    trunk.answer(types="9")
    trunk.expect("ACK")
    bye = trunk.expect("BYE")
    trunk.reply(bye, "200 OK")
    leg = finished(acme)
    assert (leg.status, leg.problem) == ("failed", "Both sides have no sound in common.")


def test_a_process_that_stops_rings_no_more(
    trunk: Trunk, sip_over: Callable[..., SipTelephony], call_out: Callable[[], TelephoneLeg], acme: Tenant
) -> None:
    sip = sip_over(f"sip:acme@127.0.0.1:{trunk.port}", SIP_RING_SECONDS="60")
    trunk.point_at(sip.sip_port)
    call_out()
    trunk.rung()
    trunk.reply(trunk.invite, "180 Ringing")
    sip.process.child.terminate()
    cancel = trunk.expect("CANCEL", within_seconds=10)
    trunk.reply(cancel, "200 OK")
    trunk.refuse("487 Request Terminated")
    sip.process.stop()
    assert finished(acme).status in ("no_answer", "failed")


def test_a_process_that_stops_hangs_up_and_what_was_talked_is_billed(
    trunk: Trunk, sip_over: Callable[..., SipTelephony], call_out: Callable[[], TelephoneLeg], acme: Tenant
) -> None:
    sip = sip_over(f"sip:acme@127.0.0.1:{trunk.port}")
    trunk.point_at(sip.sip_port)
    call_out()
    trunk.rung()
    trunk.answer()
    trunk.expect("ACK")
    wait_until(lambda: sip.health()["calls"] == 1, what="the call")
    sip.process.child.terminate()
    trunk.reply(trunk.expect("BYE", within_seconds=10), "200 OK")
    leg = finished(acme)
    assert leg.status == "completed" and leg.carrier_seconds


def test_a_trunk_that_says_nothing_is_told_of(
    trunk: Trunk, sip_over: Callable[..., SipTelephony], call_out: Callable[[], TelephoneLeg], acme: Tenant
) -> None:
    sip_over(f"sip:127.0.0.1:{trunk.port}", SIP_RING_SECONDS="60")
    call_out()
    trunk.rung()
    time.sleep(8)
    leg = finished(acme)
    assert (leg.status, leg.problem) == ("failed", "The trunk did not answer.")


def test_without_a_trunk_no_number_of_one_is_offered(acme: Tenant, alice: User, answers: Answers) -> None:
    answers("whistle")
    with enter_tenant(acme.id):
        outbound.agree_to_rules(**ALWAYS, actor=alice)
        number = TelephoneNumber.objects.get()
        assert not outbound.numbers_to_call_from().exists()
        with pytest.raises(outbound.CallNotPlaced, match="places no calls over SIP"):
            outbound.place_call(agent=number.agent, to=THEM, number=number, placed_by=alice)
