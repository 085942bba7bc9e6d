"""A telephony process among others: it registers, carries so many calls, stops, and outlives a crowd of sipp's."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
from pathlib import Path

from tenants.models import Tenant
from tests.ports import free_port
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import running, wait_until
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import (
    CROWD,
    NUMBER,
    PASSWORD,
    Answers,
    PlainPeer,
    SipTelephony,
)


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
