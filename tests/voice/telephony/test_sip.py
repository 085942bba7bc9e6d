"""Calls over SIP and RTP: Debian's baresip as the caller, sipp as a crowd, and a peer that keeps no rules."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiosipua import SipDigestAuth, build_credentials, parse_auth, stringify_auth

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.carriers.baresip import Baresip
from tests.ports import free_port
from tests.voice import factories
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import running, scripted_worker, wait_until
from tests.voice.telephony.sip_peers import (
    NUMBER,
    PASSWORD,
    Answer,
    Answers,
    PlainPeer,
    RtpPeer,
    SipTelephony,
    baresip,
    beeps,
    loud_seconds,
)
from tests.voice.telephony.test_keys import pause, tone
from tests.voice.telephony.test_twilio import finished
from voice.records import call_record, find_call
from voice.telephony.g711 import RATE_HZ


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


def test_a_caller_who_offers_opus_speaks_it(sip: SipTelephony, acme: Tenant, answers: Answers, tmp_path: Path) -> None:
    answers("whistle")
    with baresip(tmp_path / "modern", beeps(1.0), codec="PCMU/8000,opus/48000/2") as modern:
        modern.dial(NUMBER, at=sip.sip_port)
        modern.wait_for("CALL_ESTABLISHED")
        time.sleep(11.5)  # a report is made every five seconds, and the first may come before ours
        modern.tell("hangup")
        leg = finished(acme)
        assert (leg.status, leg.end_kind, leg.codec) == ("completed", "caller_hung_up", "opus")
        assert leg.packets_received and leg.packets_received > 100
        assert leg.packets_lost == 0
        assert leg.packets_late + leg.frames_concealed <= 10  # a busy machine speaks late
        assert leg.call is not None and leg.call.turns_count == 1
        assert loud_seconds(modern.heard()) > 1
        assert leg.peer_packets_lost == 0 and leg.peer_jitter_ms is not None and leg.peer_jitter_ms < 200
        assert leg.round_trip_ms is not None and leg.round_trip_ms < 200


@pytest.mark.parametrize("shares_port", [False, True], ids=["beside the sound", "on its port"])
def test_both_sides_tell_of_the_line_until_the_goodbye_and_strangers_tell_nothing(
    sip: SipTelephony, acme: Tenant, answers: Answers, shares_port: bool
) -> None:
    answers("reads_keys")
    with PlainPeer(sip.sip_port) as peer, RtpPeer() as line, RtpPeer(host="127.0.0.3") as stranger:
        answer = peer.call(body=peer.offer(port=line.port, more="a=rtcp-mux\r\n" if shares_port else ""))
        assert ("a=rtcp-mux" in answer.text) is shares_port
        port = sound_port(answer)
        talking = threading.Thread(target=line.say, args=(beeps()[: 5 * RATE_HZ],), kwargs={"to": port})
        talking.start()
        ours, to = (line.sound, port) if shares_port else (line.control, port + 1)
        report = line.told(on=ours)
        name, heard_of = struct.unpack_from("!L20xL", report, 4)
        assert report[1] == 200 and heard_of == 77
        for each, lost in ((ours, 12), (stranger.sound, 40)):
            block = struct.pack("!LLLLLL", name, lost, 0, 16, 0, 0)
            each.sendto(struct.pack("!BBHL", 0x81, 201, 7, 77) + block, ("127.0.0.1", to))
        talking.join()
        assert peer.ask("BYE").status == 200
        last = line.told(on=ours)
        while b"\x81\xcb" not in last:
            last = line.told(on=ours)
    leg = finished(acme)
    assert (leg.peer_packets_lost, leg.peer_jitter_ms, leg.round_trip_ms) == (12, 2.0, None)


def sound_port(answer: Answer) -> int:
    found = re.search(r"^m=audio (\d+)", answer.text, re.MULTILINE)
    assert found
    return int(found[1])


def test_keys_come_by_info_and_other_bodies_are_told_what_is_taken(
    sip: SipTelephony, acme: Tenant, answers: Answers, tmp_path: Path
) -> None:
    answers("reads_keys")
    with PlainPeer(sip.sip_port) as peer, RtpPeer() as line:
        port = sound_port(peer.call(body=peer.offer(port=line.port)))
        line.say(beeps()[:RATE_HZ], to=port)
        assert peer.ask("INFO").status == 200
        refused = peer.ask("INFO", body="{}", kind="application/json")
        assert refused.status == 415 and "application/dtmf-relay" in refused.header("Accept")
        assert peer.ask("INFO", body="Signal=?", kind="application/dtmf-relay").status == 400
        assert peer.ask("INFO", body="Signal=4\r\nDuration=160\r\n", kind="application/dtmf-relay").status == 200
        assert peer.ask("INFO", body="#", kind="application/dtmf").status == 200
        line.say(beeps()[:RATE_HZ], to=port)
        assert peer.receive().text.startswith("BYE")
    assert finished(acme).end_kind == "agent_hung_up"


def test_keys_come_as_tones_where_no_other_way_was_agreed_on(sip: SipTelephony, acme: Tenant, answers: Answers) -> None:
    answers("reads_keys")
    with PlainPeer(sip.sip_port) as peer, RtpPeer() as line:
        port = sound_port(peer.call(body=peer.offer(port=line.port)))
        line.say(beeps()[:RATE_HZ], to=port)
        line.say(np.concatenate([pause(50), tone("4", 80), pause(80), tone("#", 80), pause(500)]), to=port)
        assert peer.receive().text.startswith("BYE")
    assert finished(acme).end_kind == "agent_hung_up"


def test_a_key_reaches_the_agent_which_hangs_up(
    sip: SipTelephony, caller: Baresip, acme: Tenant, answers: Answers
) -> None:
    answers("reads_keys")
    caller.dial(NUMBER, at=sip.sip_port)
    caller.wait_for("CALL_ESTABLISHED")
    time.sleep(1)
    caller.tell("sndcode", "4")
    caller.tell("sndcode", "#")
    caller.wait_for("CALL_CLOSED")
    leg = finished(acme)
    assert leg.end_kind == "agent_hung_up" and leg.call is not None and leg.call.end_reason == "agent_hung_up"
    assert leg.packets_lost == 0  # keys are numbered among the sound


def test_a_caller_on_hold_is_silent_to_the_agent_and_resumes(
    sip: SipTelephony, acme: Tenant, answers: Answers, tmp_path: Path
) -> None:
    answers("whistle")
    with baresip(tmp_path / "holder", beeps(2.0, 5.5), codec="PCMA/8000") as holder:
        holder.dial(NUMBER, at=sip.sip_port)
        holder.wait_for("CALL_ESTABLISHED")
        time.sleep(1)
        holder.tell("hold")
        time.sleep(2.5)  # longer than a line may be without sound otherwise
        holder.tell("resume")
        time.sleep(4)
        holder.tell("hangup")
        leg = finished(acme)
        assert leg.codec == "PCMA" and leg.end_kind == "caller_hung_up"
        assert leg.call is not None and leg.call.turns_count == 1
        assert loud_seconds(holder.heard()) > 0.5  # baresip begins a new file when it resumes


def test_a_caller_is_put_through_by_refer(
    sip: SipTelephony, caller: Baresip, acme: Tenant, answers: Answers, tmp_path: Path
) -> None:
    with baresip(tmp_path / "person", beeps(0.5), account=";answermode=auto") as person:
        answers("hand_over", forwards_to=person.uri)
        caller.dial(NUMBER, at=sip.sip_port)
        person.wait_for("CALL_ESTABLISHED")
        leg = finished(acme)
        assert (leg.end_kind, leg.transferred_to) == ("transferred", person.uri)
        caller.tell("hangup")
        person.wait_for("CALL_CLOSED")


def test_a_peer_that_does_not_put_through_is_hung_up_on(sip: SipTelephony, acme: Tenant, answers: Answers) -> None:
    answers("hand_over", forwards_to="+14155550199")
    with PlainPeer(sip.sip_port) as peer:
        assert peer.call().status == 200
        refer = peer.receive()
        assert refer.text.startswith("REFER") and refer.header("Refer-To").startswith("<sip:+14155550199@127.0.0.1:")
        peer.reply(refer, "603 Decline")
        bye = peer.receive()
        assert bye.text.startswith("BYE")
        peer.reply(bye, "200 OK")
    leg = finished(acme)
    assert (leg.end_kind, leg.transferred_to) == ("agent_hung_up", "")


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


def test_a_call_whose_worker_dies_goes_on_with_another(
    sip: SipTelephony, acme: Tenant, connect: Answers, tmp_path: Path
) -> None:
    connect("whistle")
    with (
        scripted_worker(tmp_path) as (near_port, _, near),
        scripted_worker(tmp_path) as (far_port, _, _),
        baresip(tmp_path / "patient", beeps(5.0)) as caller,
    ):
        with enter_tenant(acme.id):
            for region, port in (("local", near_port), ("eu-west", far_port)):
                factories.create_deployment(port=port, region=region)
        caller.dial(NUMBER, at=sip.sip_port)
        caller.wait_for("CALL_ESTABLISHED")
        caller.listen(0.3)
        near.child.kill()
        caller.listen(0.3)  # the other one begins
        caller.listen(0.3)  # and answers the beep
        caller.tell("hangup")
        leg = finished(acme)
    assert leg.end_kind == "caller_hung_up"
    with enter_tenant(acme.id):
        record = call_record(find_call(leg.call_id))
    assert record["failovers"] == 1 and len(record["turns"]) == 3


def test_a_process_registers_takes_no_more_calls_than_it_carries_and_says_goodbye_when_it_stops(
    gateway: GatewayProcess, acme: Tenant, answers: Answers, tmp_path: Path
) -> None:
    answers("reads_keys")
    with PlainPeer(0) as pbx:
        telephony = SipTelephony(
            tmp_path,
            gateway_url=gateway.url,
            TELEPHONY_MAX_CALLS="1",
            TELEPHONY_DRAIN_SECONDS="0.5",
            SIP_REGISTER=f"sip:pbx@127.0.0.1:{pbx.port};number={NUMBER}",
        )
        with running(telephony.process):
            register_at(pbx, telephony)
            stop_in_a_call(telephony)
            goodbye = pbx.receive()
            assert goodbye.header("Expires") == "0"
            pbx.reply(goodbye, "200 OK")
            assert telephony.process.stop() == 0
    leg = finished(acme)
    assert (leg.end_kind, leg.close_code, leg.status) == ("lost", 1001, "completed")


def register_at(pbx: PlainPeer, telephony: SipTelephony) -> None:
    """Challenge a registration, and take it where it is proved."""
    pbx.point_at(telephony.sip_port)
    asked = pbx.receive()
    assert asked.text.startswith("REGISTER") and asked.header("Contact").startswith(f"<sip:{NUMBER}@127.0.0.1:")
    pbx.reply(asked, "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=MD5')
    while not (proved := pbx.receive()).header("Authorization"):
        continue  # the first was repeated while nobody listened
    proof = dict(re.findall(r'(\w+)="?([^",\s]+)"?', proved.header("Authorization")))

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

    known, asked_for = md5("pbx", "r", PASSWORD), md5("REGISTER", proof["uri"])
    assert proof["response"] == md5(known, "n", proof["nc"], proof["cnonce"], "auth", asked_for)
    pbx.reply(proved, "200 OK", "Expires: 120")
    wait_until(lambda: telephony.count("warmline_sip_registered{") == 1, what="the registration")


def stop_in_a_call(telephony: SipTelephony) -> None:
    """Have one caller taken and another refused, then stop the process and see the first hung up on."""
    with PlainPeer(telephony.sip_port) as peer:
        assert peer.call().status == 200
        with PlainPeer(telephony.sip_port) as another:
            assert another.ask("INVITE", body=another.offer()).status == 503
        wait_until(lambda: telephony.health()["calls"] == 1, what="the call")
        telephony.process.child.send_signal(signal.SIGTERM)
        bye = peer.receive()
        assert bye.text.startswith("BYE")
        peer.reply(bye, "200 OK")


def test_a_crowd_and_what_is_no_sip_leave_the_process_as_it_was(
    sip: SipTelephony, acme: Tenant, answers: Answers, tmp_path: Path
) -> None:
    answers("reads_keys")
    scenario = tmp_path / "crowd.xml"
    scenario.write_text(CROWD)
    before_bytes = sip.resident_bytes
    for host, reason in (("127.0.0.1", "flood"), ("127.0.0.3", "stranger")):
        before = sip.count(f'warmline_sip_dropped_total{{reason="{reason}"}}')
        command = ["sipp", f"127.0.0.1:{sip.sip_port}", "-i", host, "-p", str(free_port()), "-sf", str(scenario)]
        limits = ["-r", "2000", "-m", "4000", "-timeout", "10", "-nostdin"]
        subprocess.run([*command, *limits], cwd=tmp_path, capture_output=True, timeout=30, check=False)
        assert sip.count(f'warmline_sip_dropped_total{{reason="{reason}"}}') > before + 1000
    assert sip.count('warmline_sip_dropped_total{reason="malformed"}') > 20
    assert sip.resident_bytes - before_bytes < 48 * 1024 * 1024
    assert sip.health()["calls"] == 0

    def answers_again() -> bool:
        with PlainPeer(sip.sip_port) as peer:
            try:
                return peer.ask("OPTIONS").status == 200
            except TimeoutError:
                return False

    wait_until(answers_again, what="an answer after the crowd")


CROWD = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<scenario name="crowd">
  <send><![CDATA[
    INVITE sip:+14155550999@[remote_ip] SIP/2.0
    Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
    From: <sip:crowd@[local_ip]>;tag=[call_number]
    To: <sip:+14155550999@[remote_ip]>
    Call-ID: [call_id]
    CSeq: 1 INVITE
    Content-Length: 0

  ]]></send>
  <send><![CDATA[
    INVITE sip:{NUMBER}@[remote_ip] SIP/2.0
    Via: nonsense
    From: <sip:crowd@[local_ip]>
    To: <sip:{NUMBER}@[remote_ip]>
    Call-ID: [call_id]
    CSeq: minus one INVITE
    Content-Length: 99999999

  ]]></send>
</scenario>
"""
