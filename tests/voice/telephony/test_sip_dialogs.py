"""Who may begin a call over SIP, and how it is agreed on, kept and ended: with a peer that keeps no rules."""

from __future__ import annotations

import contextlib
import datetime
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from aiosipua import SipDigestAuth, build_credentials, parse_auth, stringify_auth

from tenants.models import Tenant
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import (
    NUMBER,
    PASSWORD,
    Answers,
    PlainPeer,
    SipTelephony,
    baresip,
    beeps,
)


def test_a_peer_with_a_password_proves_that_it_knows_it(
    sip: SipTelephony, acme: Tenant, answers: Answers, tmp_path: Path
) -> None:
    answers("reads_keys")
    for password, event in (("wrong", "CALL_CLOSED"), (PASSWORD, "CALL_ESTABLISHED")):
        account = f";auth_user=pbx;auth_pass={password}"
        with baresip(tmp_path / event, beeps(), account=account, host="127.0.0.2") as pbx:
            pbx.dial(NUMBER, at=sip.sip_port)
            found = pbx.wait_for(event)
            if password == "wrong":
                assert "401" in found["param"]
            else:
                pbx.tell("hangup")
    finished(acme)


def test_a_proof_is_good_for_one_request_of_one_call(sip: SipTelephony, acme: Tenant, answers: Answers) -> None:
    answers("reads_keys")
    with PlainPeer(sip.sip_port, host="127.0.0.2") as peer:
        asked = peer.ask("INVITE", body=peer.offer())
        assert asked.status == 401
        challenge = parse_auth(asked.header("WWW-Authenticate"))
        for uri, method, expected in ((f"sip:{NUMBER}@127.0.0.1", "BYE", 401), ("sip:other@127.0.0.1", "INVITE", 401)):
            credentials = build_credentials(SipDigestAuth("pbx", PASSWORD), challenge, method, uri)
            assert credentials is not None
            proof = f"Authorization: {stringify_auth(credentials)}"
            assert peer.ask("INVITE", proof, body=peer.offer()).status == expected
        credentials = build_credentials(SipDigestAuth("pbx", PASSWORD), challenge, "INVITE", f"sip:{NUMBER}@127.0.0.1")
        assert credentials is not None
        proof = f"Authorization: {stringify_auth(credentials)}"
        with PlainPeer(sip.sip_port, host="127.0.0.2") as thief:
            assert thief.ask("INVITE", proof, body=thief.offer()).status == 401
        assert peer.call(proof).status == 200
        assert peer.ask("BYE").status == 200
    finished(acme)


def test_a_stranger_gets_no_answer_and_is_counted(sip: SipTelephony) -> None:
    before = sip.count('warmline_sip_dropped_total{reason="stranger"}')
    with PlainPeer(sip.sip_port, host="127.0.0.3") as stranger:
        for method in ("INVITE", "OPTIONS", "REGISTER"):
            stranger.send(stranger.write(method))
        with pytest.raises(TimeoutError):
            stranger.receive(within_seconds=0.5)
    assert sip.count('warmline_sip_dropped_total{reason="stranger"}') == before + 3


def test_who_calls_without_an_offer_gets_one_and_answers_it_in_the_ack(
    sip: SipTelephony, acme: Tenant, answers: Answers
) -> None:
    answers("whistle")
    with PlainPeer(sip.sip_port) as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears:
        ears.bind(("127.0.0.1", 0))
        ears.settimeout(5)
        port = ears.getsockname()[1]
        offered = peer.call(body="", answer_body=peer.offer(port=port, types="8"))
        assert "m=audio" in offered.text and "a=rtpmap:0 PCMU/8000" in offered.text and "crypto" not in offered.text
        assert ears.recv(2000)[1] & 0x7F == 8  # it speaks what was chosen

        again = peer.ask("INVITE")  # so again, to hold the call
        assert "PCMA" in again.text and "PCMU" not in again.text
        assert peer.ask("UPDATE", body=peer.offer(port=port, types="8")).status == 491
        peer.send(peer.write("ACK", sequence=2, body=peer.offer(port=port, types="8", direction="sendonly")))
        time.sleep(0.2)
        ears.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while ears.recv(2000):
                continue
        ears.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ears.recv(2000)
        peer.send(peer.write("BYE", sequence=9))
        assert peer.final().status == 200
    leg = finished(acme)
    assert (leg.codec, leg.end_kind) == ("PCMA", "caller_hung_up")


@pytest.mark.parametrize("answer", [{"types": "9"}, None], ids=["nothing of ours", "none"])
def test_who_does_not_answer_our_offer_is_hung_up_on(
    sip: SipTelephony, acme: Tenant, answers: Answers, answer: dict[str, Any] | None
) -> None:
    answers("whistle")
    with PlainPeer(sip.sip_port) as peer:
        assert peer.call(body="", answer_body=peer.offer(**answer) if answer else "").status == 200
        bye = peer.receive()
        assert bye.text.startswith("BYE")
        peer.reply(bye, "200 OK")
    leg = finished(acme)
    assert leg.status == "completed" and leg.call is None


def test_a_caller_who_gives_up_before_the_answer_is_let_go(sip: SipTelephony, acme: Tenant, answers: Answers) -> None:
    answers("whistle")
    with PlainPeer(sip.sip_port) as peer:
        peer.send(peer.write("INVITE", sequence=1, branch="z9hG4bKsame", body=peer.offer()))
        peer.send(peer.write("CANCEL", sequence=1, branch="z9hG4bKsame"))
        answers_by_method = {}
        while len(answers_by_method) < 2:
            answer = peer.final()
            answers_by_method[answer.header("CSeq")] = answer.status
        assert answers_by_method == {"1 CANCEL": 200, "1 INVITE": 487}
    leg = finished(acme)
    assert leg.status == "cancelled" and leg.call is None


def test_copies_of_an_invite_are_one_call_whose_answer_is_repeated_until_acknowledged(
    sip: SipTelephony, acme: Tenant, answers: Answers
) -> None:
    answers("reads_keys")
    with PlainPeer(sip.sip_port) as peer:
        invite = peer.write("INVITE", body=peer.offer())
        peer.send(invite)
        peer.send(invite)
        first = peer.final()
        assert first.status == 200
        again = peer.final(within_seconds=1)  # nobody acknowledged it
        assert again.text == first.text
        peer.send(invite)
        assert peer.final().text == first.text
        peer.their_tag = first.header("To").rpartition("tag=")[2]
        peer.send(peer.write("ACK", sequence=1))
        assert peer.ask("BYE").status == 200
    assert finished(acme).end_kind == "caller_hung_up"


@pytest.mark.parametrize(
    "expires", ["", "Session-Expires: 2", "x: 2;refresher=uac"], ids=["no sound", "timer", "short"]
)
def test_a_peer_of_which_nothing_is_heard_is_taken_to_be_gone(
    sip: SipTelephony, acme: Tenant, answers: Answers, expires: str
) -> None:
    answers("reads_keys")
    with PlainPeer(sip.sip_port) as peer:
        answer = peer.call(*filter(None, [expires]))
        assert answer.header("Session-Expires") == ("2;refresher=uac" if expires else "")
        began = time.monotonic()
        bye = peer.receive()
        assert bye.text.startswith("BYE")
        assert (time.monotonic() - began < 1.95) is bool(expires)
        peer.reply(bye, "200 OK")
    leg = finished(acme)
    assert leg.call is not None and leg.call.status == "ended"


def test_a_session_is_kept_alive_for_a_peer_that_leaves_that_to_us(
    sip: SipTelephony, acme: Tenant, answers: Answers
) -> None:
    answers("reads_keys")
    with PlainPeer(sip.sip_port) as peer:
        assert peer.call("Session-Expires: 2;refresher=uas").header("Session-Expires") == "2;refresher=uas"
        update = peer.receive()
        assert update.text.startswith("UPDATE") and update.header("Session-Expires").startswith("2")
        peer.reply(update, "200 OK")
        assert peer.ask("UPDATE").status == 200
        assert peer.ask("BYE").status == 200
    finished(acme)


@pytest.mark.parametrize(
    ("number", "more", "offer", "status"),
    [
        ("+14155550999", (), {}, 404),
        ("nobody", (), {}, 404),
        (NUMBER, (), {"proto": "RTP/SAVP"}, 488),
        (NUMBER, (), {"types": "9 18"}, 488),
        (NUMBER, (), {"port": 0}, 488),
        (NUMBER, ("Session-Expires: 1",), {}, 422),
        (NUMBER, ("Require: precondition",), {}, 420),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_reason(
    sip: SipTelephony, answers: Answers, number: str, more: tuple[str, ...], offer: dict[str, Any], status: int
) -> None:
    answers("whistle")
    with PlainPeer(sip.sip_port, number=number) as peer:
        assert peer.ask("INVITE", *more, body=peer.offer(**offer)).status == status
        peer.send(peer.write("ACK", sequence=1))
        assert peer.ask("OPTIONS").status == 200
        assert peer.ask("SUBSCRIBE").status == 405
        assert peer.ask("CANCEL").status == 481


def test_a_number_outside_its_hours_is_not_available_and_the_leg_says_why(
    sip: SipTelephony, acme: Tenant, answers: Answers
) -> None:
    answers("whistle", hours={0: [(datetime.time(3, 0), datetime.time(3, 0, 1))]}, outside_message="We are closed.")
    with PlainPeer(sip.sip_port) as peer:
        assert peer.ask("INVITE", body=peer.offer()).status == 480
        peer.send(peer.write("ACK", sequence=1))
    leg = finished(acme)
    assert (leg.status, leg.problem) == ("failed", "We are closed.")
