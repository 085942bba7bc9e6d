"""Encrypted sound: keys in descriptions, packets held against RFC 3711, and baresip over TLS that insists on it."""

from __future__ import annotations

import base64
import hmac
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ as HEARING_RATE_HZ
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.protocol import SAMPLE_RATE_HZ
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.gpu_workers.speech import speak
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import running
from tests.voice.supervised import supervisor_with_a_pool
from tests.voice.telephony.legs import finished
from tests.voice.telephony.sip_peers import (
    NUMBER,
    Answers,
    PlainPeer,
    SipTelephony,
    baresip,
    beeps,
    loud_seconds,
)
from tests.voice.telephony.stream_peers import Certificate, StreamPeer
from tests.voice.telephony.test_booking import words_of
from tests.voice.test_conversation import publish_salon
from voice.records import call_record, find_call
from voice.telephony import numbers
from voice.telephony.g711 import PCMU, RATE_HZ
from voice.telephony.sip.media import NoCommonSound, read_offer, write_answer
from voice.telephony.sip.srtp import Crypto, Encryption, NoCommonKey, Suite, find_key

HEADER = struct.Struct("!BBHLL")
KEY, OTHER_KEY = (base64.b64encode(bytes(range(begin, begin + 30))).decode() for begin in (0, 100))


# --- our own SRTP, to hold the library's against: it is tried on the RFC's own numbers first ------------------------
def keystream(key: bytes, iv: int, length: int) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(iv.to_bytes(16))).encryptor().update(bytes(length))


def derive(key: bytes, salt: bytes, label: int, length: int) -> bytes:
    """RFC 3711, section 4.3.1, with a key derivation rate of 0."""
    return keystream(key, (int.from_bytes(salt) ^ label << 48) << 16, length)


def protected(packet: bytes, crypto: Crypto, *, index: int) -> bytes:
    """RFC 3711, sections 4.1.1 and 4.2."""
    key, salt = crypto.key[:16], crypto.key[16:]
    head, body = packet[:12], packet[12:]
    iv = (int.from_bytes(derive(key, salt, 2, 14)) << 16) ^ (int.from_bytes(head[8:12]) << 64) ^ (index << 16)
    stream = keystream(derive(key, salt, 0, 16), iv, len(body))
    encrypted = head + bytes(a ^ b for a, b in zip(body, stream, strict=True))
    tag = hmac.digest(derive(key, salt, 1, 20), encrypted + (index >> 16).to_bytes(4), "sha1")
    return encrypted + tag[: 10 if crypto.suite is Suite.SHA1_80 else 4]


def test_our_own_reckoning_gives_the_numbers_of_rfc_3711() -> None:
    # Appendix B.2: AES in counter mode.
    key, salt = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"), bytes.fromhex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD")
    stream = keystream(key, int.from_bytes(salt) << 16, 0xFF02 * 16)
    assert stream[:16].hex().upper() == "E03EAD0935C95E80E166B16DD92B4EB4"
    assert stream[0xFEFF * 16 :][:16].hex().upper() == "EC8CDF7398607CB0F2D21675EA9EA1E4"
    # Appendix B.3: keys for a session.
    key, salt = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
    assert derive(key, salt, 0, 16).hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert derive(key, salt, 2, 14).hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    assert derive(key, salt, 1, 94).hex().upper().startswith("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")


def rtp(sequence: int, *, source: int = 7) -> bytes:
    return HEADER.pack(0x80, 0, sequence & 0xFFFF, 160 * sequence & 0xFFFFFFFF, source) + PCMU.silence


@pytest.mark.parametrize("suite", list(Suite))
def test_packets_are_those_of_rfc_3711_also_where_their_numbers_wrap(suite: Suite) -> None:
    theirs, keys = Crypto.make(1, suite), Encryption()
    ours = find_key(keys.answer(theirs))
    assert ours is not None and ours.key != theirs.key and ours.suite is suite
    for at in range(65_530, 65_545):
        assert keys.protect(rtp(at)) == protected(rtp(at), ours, index=at)
        assert keys.unprotect(protected(rtp(at), theirs, index=at)) == rtp(at)


def test_what_was_changed_or_came_before_or_is_not_theirs_is_let_go() -> None:
    theirs, keys = Crypto.make(1, Suite.SHA1_80), Encryption()
    keys.answer(theirs)
    good = protected(rtp(5), theirs, index=5)
    for bad in (
        rtp(5),
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:20] + bytes([good[20] ^ 1]) + good[21:],
        protected(rtp(5), Crypto.make(1, Suite.SHA1_80), index=5),
        b"",
        good[:11],
        good + bytes(1500),
    ):
        assert keys.unprotect(bad) is None
    assert keys.unprotect(good) == rtp(5)
    assert keys.unprotect(good) is None  # a replay
    assert keys.unprotect(protected(rtp(4), theirs, index=4)) == rtp(4)  # late, and new
    for at in range(6, 300):
        keys.unprotect(protected(rtp(at), theirs, index=at))
    assert keys.unprotect(protected(rtp(3), theirs, index=3)) is None  # too late to be told from a replay


def test_control_packets_are_encrypted_too() -> None:
    theirs, keys, peer = Crypto.make(1, Suite.SHA1_80), Encryption(), Encryption()
    (line,) = keys.answer(theirs)
    ours = find_key([line])
    assert ours is not None
    report = struct.pack("!BBHL", 0x80, 201, 1, 7)
    sent = keys.protect_control(report)
    assert report[8:] not in (sent[8:], b"x") and len(sent) == len(report) + 14
    peer._agree(theirs, ours)
    assert peer.unprotect_control(sent) == report and peer.unprotect_control(sent) is None
    assert keys.unprotect_control(peer.protect_control(report)) == report


def test_a_key_that_stays_is_counted_on_and_another_begins_anew() -> None:
    theirs, keys = Crypto.make(1, Suite.SHA1_80), Encryption()
    first = keys.answer(theirs)
    packet = protected(rtp(1), theirs, index=1)
    assert keys.unprotect(packet) == rtp(1)
    assert keys.answer(theirs) == first and keys.unprotect(packet) is None
    other = Crypto.make(2, Suite.SHA1_80)
    assert keys.answer(other)[0].split()[2] == first[0].split()[2]  # ours stays
    assert keys.unprotect(protected(rtp(1), other, index=1)) == rtp(1)
    assert keys.answer(None) == [] and keys.unprotect(rtp(2)) == rtp(2) == keys.protect(rtp(2))


def test_an_answer_to_our_offer_has_one_of_its_keys_or_none() -> None:
    keys = Encryption()
    offered = [find_key([line]) for line in keys.offer()]
    assert [each.suite for each in offered if each] == list(Suite)
    with pytest.raises(NoCommonKey):
        keys.take_answer(Crypto.make(1, Suite.SHA1_32))
    keys.take_answer(theirs := Crypto.make(2, Suite.SHA1_32))
    assert offered[1] is not None and keys.protect(rtp(1)) == protected(rtp(1), offered[1], index=1)
    assert keys.unprotect(protected(rtp(1), theirs, index=1)) == rtp(1)
    assert [find_key([line]) for line in keys.offer()] == [offered[1]]


@pytest.mark.parametrize(
    ("line", "is_spoken"),
    [
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}", True),
        (f"7 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^31", True),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} WSH=128", True),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4", False),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}", False),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP", False),
        (f"1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}", False),
        (f"1 F8_128_HMAC_SHA1_80 inline:{KEY}", False),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + "=" * 40, False),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:c2hvcnQ=", False),
        ("", False),
    ],
)
def test_a_key_is_taken_whose_packets_we_speak(line: str, *, is_spoken: bool) -> None:
    assert (find_key([line]) is not None) is is_spoken
    assert find_key([line, f"9 AES_CM_128_HMAC_SHA1_32 inline:{OTHER_KEY}"]) is not None
    assert KEY not in repr(find_key([line]))


def offer(proto: str, *lines: str) -> str:
    head = ("v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", f"m=audio 4000 {proto} 0")
    return "\r\n".join([*head, *lines, ""])


def test_keys_are_taken_over_tls_only_and_answered_in_kind() -> None:
    line = f"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"
    for text, is_secret in ((offer("RTP/SAVP", line), False), (offer("RTP/SAVP"), True), (offer("RTP/SAVPF"), True)):
        with pytest.raises(NoCommonSound):
            read_offer(text, is_secret=is_secret)
    assert read_offer(offer("RTP/AVP", line)).crypto is None
    for proto in ("RTP/SAVP", "RTP/AVP"):
        media = read_offer(offer(proto, line), is_secret=True)
        answer = write_answer(
            media, host="203.0.113.10", port=16384, session=1, version=1, crypto=Encryption().answer(media.crypto)
        )
        assert f"m=audio 16384 {proto} 0" in answer and "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:" in answer
        assert KEY not in answer


# --- calls -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sip(
    gateway: GatewayProcess, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SipTelephony]:
    telephony = SipTelephony(tmp_path_factory.mktemp("sip"), gateway_url=gateway.url, **certificate.settings)
    with running(telephony.process):
        yield telephony


@pytest.mark.parametrize(("encryption", "codec"), [("srtp-mand", "PCMU/8000"), ("srtp", "PCMU/8000,opus/48000/2")])
def test_a_telephone_talks_over_tls_and_encrypts_its_sound_and_holds(
    sip: SipTelephony,
    certificate: Certificate,
    acme: Tenant,
    answers: Answers,
    tmp_path: Path,
    encryption: str,
    codec: str,
) -> None:
    answers("whistle")
    how = {"account": f";mediaenc={encryption}", "authorities": certificate.chain, "codec": codec}
    with baresip(tmp_path / "caller", beeps(1.0), **how) as caller:
        caller.dial(NUMBER, at=sip.sip_port + 1, transport="tls")
        caller.wait_for("CALL_ESTABLISHED")
        assert "AES_CM_128_HMAC_SHA1_80" in caller.wait_for("CALL_MENC")["param"]
        caller.listen(0.5)
        if encryption == "srtp-mand":
            caller.tell("hold")
            time.sleep(1)
            caller.tell("resume")
            time.sleep(1)
        caller.tell("hangup")
        leg = finished(acme)
        heard = caller.heard()
    assert leg.end_kind == "caller_hung_up" and leg.packets_lost == 0 and (leg.packets_received or 0) > 50
    assert leg.codec == ("opus" if "opus" in codec else "PCMU")
    if encryption == "srtp":  # otherwise its file began anew
        assert loud_seconds(heard) > 0.5
    assert "inline:" not in sip.log


def test_a_telephone_that_insists_is_refused_without_tls_and_one_without_keys_is_not(
    sip: SipTelephony, certificate: Certificate, acme: Tenant, answers: Answers
) -> None:
    answers("reads_keys")
    line = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"
    for peer in (PlainPeer(sip.sip_port), StreamPeer(sip.sip_port)):
        with peer:
            assert peer.ask("INVITE", body=peer.offer(proto="RTP/SAVP", more=f"{line}\r\n")).status == 488
    with StreamPeer(sip.sip_port + 1, context=certificate.context) as peer:
        assert "crypto" not in peer.call().text
        assert peer.ask("BYE").status == 200
    finished(acme)


@pytest.mark.parametrize(
    "crypto", ["", f"a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}\r\n"], ids=["plain", "encrypted"]
)
def test_who_calls_over_tls_without_an_offer_may_encrypt_or_not(
    sip: SipTelephony, certificate: Certificate, acme: Tenant, answers: Answers, crypto: str
) -> None:
    answers("whistle")
    with (
        StreamPeer(sip.sip_port + 1, context=certificate.context) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears,
    ):
        ears.bind(("127.0.0.1", 0))
        ears.settimeout(5)
        offered = peer.call(body="", answer_body=peer.offer(port=ears.getsockname()[1], more=crypto))
        ours = find_key([line[9:] for line in offered.text.split("\r\n") if line.startswith("a=crypto:2")])
        assert ours is not None and ours.suite is Suite.SHA1_32
        packet = ears.recv(2000)
        assert len(packet) == 12 + 160 + (4 if crypto else 0)
        if crypto:
            plain = protected(packet[:-4], ours, index=int.from_bytes(packet[2:4]))[: 12 + 160]
            assert plain[12:] == PCMU.silence  # a keystream laid over twice
        assert peer.ask("BYE").status == 200
    finished(acme)


def test_a_caller_is_understood_over_tls_with_encrypted_sound(
    acme: Tenant,
    alice: User,
    own_gateway: Any,
    certificate: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = publish_salon(acme)
    with enter_tenant(acme.id):
        numbers.add_number(number=NUMBER, carrier="sip", agent=agent, settings={}, hours={}, actor=alice)
    question = soxr.resample(speak("What are your opening hours?"), SAMPLE_RATE_HZ, RATE_HZ)
    with supervisor_with_a_pool(acme, tmp_path, monkeypatch) as reached:
        gateway = own_gateway(**reached, GATEWAY_HANDSHAKE_SECONDS="20", GATEWAY_CALLER_SILENCE_SECONDS="60")
        sip = SipTelephony(tmp_path, gateway_url=gateway.url, **certificate.settings)
        insists = {"account": ";mediaenc=srtp-mand", "authorities": certificate.chain}
        with running(sip.process), baresip(tmp_path / "caller", beeps(), **insists) as caller:
            caller.dial(NUMBER, at=sip.sip_port + 1, transport="tls")
            caller.wait_for("CALL_ESTABLISHED")
            assert "AES_CM_128_HMAC_SHA1_80" in caller.wait_for("CALL_MENC")["param"]
            caller.listen(0.8)
            caller.say(np.concatenate([question, beeps()]))
            caller.listen(0.8)
            caller.tell("hangup")
            leg = finished(acme)
            heard = caller.heard()
    assert leg.peer_packets_lost == 0  # what it says of our sound is encrypted too
    with enter_tenant(acme.id):
        record = call_record(find_call(leg.call_id))
    callers = " ".join(line["text"] for line in record["transcript"] if line["role"] == "caller").lower()
    assert "opening hours" in callers, record["transcript"]
    # What the caller heard is speech: our own ears find the agent's last words in the end of it.
    end = int(np.flatnonzero(np.abs(heard) > 0.05)[-1])
    last = soxr.resample(heard[max(0, end - 5 * RATE_HZ) : end + RATE_HZ // 2], RATE_HZ, HEARING_RATE_HZ)
    understood = words_of(Moonshine().transcribe(last.astype(np.float32)))
    agent_said = [line["text"] for line in record["transcript"] if line["role"] == "agent"]
    assert len(set(understood) & set(words_of(agent_said[-1]))) >= 4, (understood, agent_said)
