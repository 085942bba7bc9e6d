"""Telling a PBX or trunk where we are, and again before it forgets (RFC 3261, section 10)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import secrets
import socket
from typing import Self

import structlog
from aiosipua import SipDigestAuth, SipRequest, SipResponse
from aiosipua.auth import answer_challenge
from prometheus_client import Gauge

from config import env
from voice.telephony.sip.door import Door
from voice.telephony.sip.options import SipOptions
from voice.telephony.sip.wire import Address, NoAnswer, SipWire

log = structlog.get_logger(__name__)

REGISTERED = Gauge("warmline_sip_registered", "Whether a registrar knows where we are.", ["registrar"])
FORM = re.compile(r"sip:([^@:;\s]+)@([^@:;\s]+)(?::(\d+))?(?:;number=(\+[1-9]\d{6,14}))?")
EXPIRES_SECONDS = 300
SHORTEST_SECONDS = 10
AGAIN_SECONDS = 30.0
"""After a refusal, or none at all."""
GOODBYE_SECONDS = 1.0


class NotRegistered(Exception):
    """The registrar does not take us. The sentence is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Registrar:
    """An entry of SIP_REGISTER: sip:USER@HOST:PORT;number=NUMBER, with USER's password in SIP_PASSWORDS."""

    user: str
    host: str
    port: int
    number: str
    """What it calls us by, which is the number that it then dials; without one, USER."""
    password: str = dataclasses.field(repr=False)

    @classmethod
    def read_all(cls, options: SipOptions) -> list[Self]:
        """
        Raises:
            config.env.ConfigurationError
        """
        found = []
        for entry in options.register:
            match = FORM.fullmatch(entry)
            if match is None:
                raise env.ConfigurationError(
                    f"SIP_REGISTER must be like sip:USER@HOST:PORT;number=+1..., not {entry!r}."
                )
            user, host, port, number = match.groups()
            if user not in options.passwords:
                raise env.ConfigurationError(f"SIP_REGISTER names {user}, who has no password in SIP_PASSWORDS.")
            found.append(cls(user, host, int(port or 5060), number or user, options.passwords[user]))
        return found


class Registration:
    """Of one registrar."""

    def __init__(self, wire: SipWire, door: Door, registrar: Registrar, *, here: Address) -> None:
        self._wire = wire
        self._door = door
        self._registrar = registrar
        self._here = here
        self._call_id = secrets.token_hex(16)
        self._tag = secrets.token_hex(8)
        self._sequence = 0
        self._gauge = REGISTERED.labels(f"{registrar.user}@{registrar.host}")

    async def keep(self) -> None:
        """Stay registered until cancelled; then say goodbye."""
        try:
            while True:
                try:
                    seconds = await self._register(EXPIRES_SECONDS)
                    self._gauge.set(1)
                    await asyncio.sleep(max(SHORTEST_SECONDS, seconds) / 2)
                except (NotRegistered, NoAnswer, OSError) as problem:
                    self._gauge.set(0)
                    log.warning("sip.not_registered", registrar=self._registrar.host, problem=str(problem))
                    await asyncio.sleep(AGAIN_SECONDS)
        except asyncio.CancelledError:
            with contextlib.suppress(NotRegistered, NoAnswer, OSError, TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._register(0)
            raise

    async def _register(self, seconds: int) -> int:
        """Register for so long, and return for how long it is.

        Raises:
            NotRegistered, NoAnswer, OSError
        """
        registrar = self._registrar
        found = await asyncio.get_running_loop().getaddrinfo(
            registrar.host, registrar.port, family=socket.AF_INET, type=socket.SOCK_DGRAM
        )
        address = str(found[0][4][0]), registrar.port
        if self._door.find(address[0]) is None:
            raise NotRegistered(f"{address[0]} is not one of SIP_ALLOWED_PEERS: its answer would not be heard")
        request = self._write(seconds)
        answer = await self._wire.ask(request, address)
        if answer.status_code in (401, 407):
            proof = answer_challenge(
                SipDigestAuth(registrar.user, registrar.password), answer, answer.status_code, "REGISTER", request.uri
            )
            if proof is None:
                raise NotRegistered("its challenge is of a kind that is not known here")
            request = self._write(seconds)
            request.headers.set_single(*proof)
            answer = await self._wire.ask(request, address)
        if answer.status_code != 200:
            raise NotRegistered(f"it said {answer.status_code}")
        return self._read_expires(answer, seconds)

    def _write(self, seconds: int) -> SipRequest:
        registrar, here = self._registrar, f"{self._here[0]}:{self._here[1]}"
        self._sequence += 1
        who = f"<sip:{registrar.user}@{registrar.host}>"
        request = SipRequest(method="REGISTER", uri=f"sip:{registrar.host}:{registrar.port}")
        for name, value in {
            "Via": f"SIP/2.0/UDP {here};branch=z9hG4bK{secrets.token_hex(8)};rport",
            "From": f"{who};tag={self._tag}",
            "To": who,
            "Call-ID": self._call_id,
            "CSeq": f"{self._sequence} REGISTER",
            "Contact": f"<sip:{registrar.number}@{here}>",
            "Expires": str(seconds),
            "Max-Forwards": "70",
        }.items():
            request.headers.append(name, value)
        return request

    def _read_expires(self, answer: SipResponse, asked_seconds: int) -> int:
        """Return what the registrar made of it: it may say so with our Contact, or for all of them."""
        ours = [each for each in answer.contact if each.uri.user == self._registrar.number]
        said = [*(each.params.get("expires") for each in ours), answer.get_header("expires")]
        return next((int(each) for each in said if each and each.isdecimal()), asked_seconds)
