"""Calls over SIP and RTP as callers have them: Debian's baresip, and a peer that keeps no rules where it must not."""

from __future__ import annotations

import re
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.carriers.baresip import Baresip
from tests.voice import factories
from tests.voice.processes import scripted_worker
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import (
    NUMBER,
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
from voice.records import call_record, find_call
from voice.telephony.g711 import RATE_HZ


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
