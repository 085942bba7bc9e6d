"""Peers of a telephony process that speaks SIP: baresips, and one that sends what it is told, byte by byte."""

from __future__ import annotations

import dataclasses
import re
import secrets
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from tests.carriers.baresip import Baresip, Samples, write_wav
from tests.ports import free_port
from tests.voice.processes import running
from tests.voice.telephony.processes import TelephonyProcess
from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMU, RATE_HZ
from voice.telephony.sip.rtcp import is_rtcp
from voice.telephony.sip.rtp import HEADER

NUMBER = "+14155550142"
PASSWORD = "a-password-of-tests"
SECONDS_OF_SILENCE = 60
Answers = Callable[..., None]
"""Connects NUMBER to an agent: the fixture `answers`."""


def beeps(*at_seconds: float) -> Samples:
    """Return a minute of silence with beeps of half a second in it."""
    line = np.zeros(SECONDS_OF_SILENCE * RATE_HZ, np.float32)
    for begin in at_seconds:
        at = np.arange(RATE_HZ // 2)
        line[int(begin * RATE_HZ) :][: len(at)] = 0.3 * np.sin(2 * np.pi * 500 * at / RATE_HZ)
    return line


def loud_seconds(samples: Samples) -> float:
    whole = len(samples) - len(samples) % 160
    return float(np.sum(np.abs(samples[:whole]).reshape(-1, 160).max(axis=1) > 0.05) * 0.02)


class SipTelephony(TelephonyProcess):
    """A telephony process that answers 127.0.0.1 by its address, and 127.0.0.2 with a password."""

    def __init__(self, folder: Path, *, gateway_url: str, **more: str) -> None:
        self.sip_port = free_port()
        given = {
            "SIP_HOST": "127.0.0.1",
            "SIP_PORT": str(self.sip_port),
            "SIP_TLS_PORT": str(self.sip_port + 1),
            "SIP_RTP_PORTS": "20000-20199",
            "SIP_ALLOWED_PEERS": "127.0.0.1, pbx@127.0.0.2",
            "SIP_PASSWORDS": f"pbx:{PASSWORD}",
            "SIP_MEDIA_TIMEOUT_SECONDS": "2",
            "SIP_MIN_SESSION_SECONDS": "2",
            **more,
        }
        super().__init__(folder, gateway_url=gateway_url, **given)

    def count(self, metric: str) -> float:
        """Return what a metric counts, over all its labels that begin so."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric))

    @property
    def resident_bytes(self) -> float:
        return self.count("process_resident_memory_bytes")


@contextmanager
def baresip(folder: Path, says: Samples, **how: Any) -> Iterator[Baresip]:
    folder.mkdir()
    telephone = Baresip(
        folder / "baresip",
        sip_port=free_port(),
        control_port=free_port(),
        says=write_wav(folder / "says.wav", says),
        **how,
    )
    with running(telephone.process):
        try:
            yield telephone
        finally:
            telephone.close()


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    text: str

    def header(self, name: str) -> str:
        found = re.search(rf"^{name}: (.*?)\r?$", self.text, re.MULTILINE | re.IGNORECASE)
        return found[1] if found else ""


class PlainPeer:
    """A socket with a call's names. It sends what it is told and nothing else: no ACK, no sound, no patience."""

    transport = "UDP"
    scheme = "sip"

    def __init__(self, to: int, *, host: str = "127.0.0.1", number: str = NUMBER) -> None:
        self._to = "127.0.0.1", to
        self._host = host
        self._number = number
        self.socket = self._open()
        self.port = int(self.socket.getsockname()[1])
        self.call_id = secrets.token_hex(8)
        self.tag = secrets.token_hex(4)
        self.their_tag = ""
        self._sequence = 0

    def _open(self) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((self._host, 0))
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(
        self,
        method: str,
        *more: str,
        body: str = "",
        kind: str = "application/sdp",
        sequence: int | None = None,
        branch: str = "",
    ) -> bytes:
        """Return a request; the next of this call unless told."""
        self._sequence = self._sequence + 1 if sequence is None else sequence
        branch = branch or f"z9hG4bK{secrets.token_hex(6)}"
        to_tag = f";tag={self.their_tag}" if self.their_tag else ""
        lines = [
            f"{method} {self.scheme}:{self._number}@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self._host}:{self.port};branch={branch};rport",
            f"From: <sip:+12125550177@{self._host}>;tag={self.tag}",
            f"To: <sip:{self._number}@127.0.0.1>{to_tag}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self._sequence} {method}",
            f"Contact: <sip:peer@{self._host}:{self.port}>",
            "Max-Forwards: 70",
            *more,
            *([f"Content-Type: {kind}"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", body]).encode()

    def offer(
        self,
        *,
        port: int = 30000,
        direction: str = "sendrecv",
        proto: str = "RTP/AVP",
        types: str = "0",
        more: str = "",
    ) -> str:
        return (
            f"v=0\r\no=- 1 1 IN IP4 {self._host}\r\ns=-\r\nc=IN IP4 {self._host}\r\nt=0 0\r\n"
            f"m=audio {port} {proto} {types}\r\na={direction}\r\n{more}"
        )

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self._to)

    def receive(self, *, within_seconds: float = 5.0) -> Answer:
        """Return what comes next: an answer, or a request of theirs, whose status is 0.

        Raises:
            TimeoutError
        """
        self.socket.settimeout(within_seconds)
        text = self.socket.recv(65536).decode()
        first = text.split(" ", 2)
        return Answer(int(first[1]) if first[0] == "SIP/2.0" else 0, text)

    def point_at(self, port: int) -> None:
        self._to = "127.0.0.1", port

    def reply(self, request: Answer, status: str, *more: str) -> None:
        """Answer a request of theirs."""
        names = ("via", "from", "to", "call-id", "cseq")
        lines = [line for line in request.text.split("\r\n") if line.partition(":")[0].lower() in names]
        self.send("\r\n".join([f"SIP/2.0 {status}", *lines, *more, "Content-Length: 0", "", ""]).encode())

    def ask(self, method: str, *more: str, body: str = "", kind: str = "application/sdp") -> Answer:
        """Send a request, and return its final answer."""
        self.send(self.write(method, *more, body=body, kind=kind))
        return self.final()

    def final(self, *, within_seconds: float = 5.0) -> Answer:
        while (answer := self.receive(within_seconds=within_seconds)).status < 200:
            continue
        return answer

    def call(self, *more: str, body: str | None = None, answer_body: str = "") -> Answer:
        """Call, and acknowledge an answer of 200; `answer_body` answers an offer in it."""
        answer = self.ask("INVITE", *more, body=self.offer() if body is None else body)
        if answer.status == 200:
            self.their_tag = answer.header("To").rpartition("tag=")[2]
            self.send(self.write("ACK", sequence=self._sequence, body=answer_body))
        return answer


class RtpPeer:
    """Two sockets for a call's sound and its RTCP, which say in real time what they are told."""

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.sound, self.control = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each, port in ((self.sound, self.port), (self.control, self.port + 1)):
            each.bind((host, port))
            each.settimeout(8.0)
        self._sequence = 0

    def __enter__(self) -> RtpPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sound.close()
        self.control.close()

    def say(self, samples: Samples, *, to: int) -> None:
        due = time.monotonic()
        for at in range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
            head = HEADER.pack(0x80, 0, self._sequence & 0xFFFF, self._sequence * FRAME_SAMPLES, 77)
            self.sound.sendto(head + PCMU.encode(samples[at : at + FRAME_SAMPLES]), ("127.0.0.1", to))
            self._sequence += 1
            due += FRAME_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))

    def told(self, *, on: socket.socket) -> bytes:
        """Return the next RTCP that comes to this one of its sockets."""
        while not is_rtcp(data := on.recv(2048)):
            continue
        return data


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
"""A scenario of sipp's: invitations to nobody, and what is no SIP."""
