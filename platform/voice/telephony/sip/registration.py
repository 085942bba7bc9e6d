"""PBXs and trunks that we ask, and telling them where we are before they forget (RFC 3261, section 10)."""

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
from voice.telephony.sip.hops import Here, Hop, Transport
from voice.telephony.sip.options import SipOptions
from voice.telephony.sip.wire import NoAnswer, SipWire

log = structlog.get_logger(__name__)

REGISTERED = Gauge("warmline_sip_registered", "Whether a registrar knows where we are.", ["registrar"])
FORM = re.compile(
    r"(?P<scheme>sips?):(?:(?P<user>[^@:;\s]+)@)?(?P<host>[^@:;\s]+)(?::(?P<port>\d{1,5}))?"
    r"(?:;transport=(?P<transport>udp|tcp|tls))?(?:;number=(?P<number>\+[1-9]\d{6,14}))?"
)
EXPIRES_SECONDS = 300
SHORTEST_SECONDS = 10
AGAIN_SECONDS = 30.0
"""After a refusal, or none at all."""
RECONNECT_SECONDS = 1.0
"""After the connection to it was lost, on which it would call us."""
GOODBYE_SECONDS = 1.0


class NotRegistered(Exception):
    """The registrar does not take us. The sentence is for the log."""


class Unreachable(Exception):
    """A trunk is not to be asked. The sentence is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trunk:
    """A PBX or trunk that we ask: sip:USER@HOST:PORT;transport=tls;number=NUMBER. SIP_PASSWORDS has USER's password."""

    user: str
    """Empty where it knows us by our address."""
    host: str
    port: int
    transport: Transport
    is_sips: bool
    number: str
    """What it calls us by, which is the number that it then dials; without one, USER."""
    password: str = dataclasses.field(repr=False)

    @classmethod
    def registrars(cls, options: SipOptions) -> list[Self]:
        """Return where we register.

        Raises:
            config.env.ConfigurationError
        """
        found = [cls._read("SIP_REGISTER", entry, options) for entry in options.register]
        if nameless := [each.host for each in found if not each.user]:
            raise env.ConfigurationError(f"SIP_REGISTER must name a user: sip:USER@{nameless[0]}.")
        return found

    @classmethod
    def for_calls(cls, options: SipOptions) -> Self | None:
        """Return through which calls are placed.

        Raises:
            config.env.ConfigurationError
        """
        return cls._read("SIP_TRUNK", options.trunk, options) if options.trunk else None

    @classmethod
    def _read(cls, name: str, entry: str, options: SipOptions) -> Self:
        match = FORM.fullmatch(entry)
        if match is None:
            raise env.ConfigurationError(f"{name} must be like sip:USER@HOST:PORT;transport=tcp, not {entry!r}.")
        user, is_sips = match["user"] or "", match["scheme"] == "sips"
        transport = Transport((match["transport"] or ("tls" if is_sips else "udp")).upper())
        if is_sips and transport is not Transport.TLS:
            raise env.ConfigurationError(f"{name} has sips, which goes over TLS: {entry!r}.")
        if transport is Transport.UDP and Transport.UDP not in options.transports:
            raise env.ConfigurationError(f"{name} goes over UDP, which SIP_TRANSPORTS leaves out: {entry!r}.")
        if user and user not in options.passwords:
            raise env.ConfigurationError(f"{name} names {user}, who has no password in SIP_PASSWORDS.")
        port = int(match["port"] or transport.default_port)
        number = match["number"] or user
        return cls(user, match["host"], port, transport, is_sips, number, options.passwords.get(user, ""))

    async def find(self, door: Door) -> Hop:
        """Return where it is now.

        Raises:
            OSError: its name leads nowhere.
            Unreachable
        """
        found = await asyncio.get_running_loop().getaddrinfo(
            self.host, self.port, family=socket.AF_INET, type=socket.SOCK_DGRAM
        )
        address = str(found[0][4][0]), self.port
        if door.find(address[0]) is None:
            raise Unreachable(f"{address[0]} is not one of SIP_ALLOWED_PEERS: its answer would not be heard")
        return Hop(self.transport, address, address, self.host)

    def proof(self, answer: SipResponse, request: SipRequest) -> tuple[str, str] | None:
        """Return the header that answers its challenge; None where it is of a kind that is not known here."""
        if not self.user:
            return None
        credentials = SipDigestAuth(self.user, self.password)
        return answer_challenge(credentials, answer, answer.status_code, request.method, request.uri)


class Registration:
    """Of one registrar."""

    def __init__(self, wire: SipWire, door: Door, registrar: Trunk, *, here: Here) -> None:
        self._wire = wire
        self._door = door
        self._registrar = registrar
        self._here = here
        self._call_id = secrets.token_hex(16)
        self._tag = secrets.token_hex(8)
        self._sequence = 0
        self._hop: Hop | None = None
        self._gauge = REGISTERED.labels(f"{registrar.user}@{registrar.host}")

    async def keep(self) -> None:
        """Stay registered until cancelled; then say goodbye."""
        try:
            while True:
                try:
                    seconds = await self._register(EXPIRES_SECONDS)
                    self._gauge.set(1)
                    await self._rest(max(SHORTEST_SECONDS, seconds) / 2)
                except (NotRegistered, Unreachable, NoAnswer, OSError) as problem:
                    self._gauge.set(0)
                    log.warning("sip.not_registered", registrar=self._registrar.host, problem=str(problem))
                    await asyncio.sleep(AGAIN_SECONDS)
        except asyncio.CancelledError:
            with contextlib.suppress(NotRegistered, Unreachable, NoAnswer, OSError, TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._register(0)
            raise

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until the connection is lost on which it would call us."""
        if self._hop is None or not self._hop.transport.is_stream:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wire.streams.wait_until_lost(self._hop)
                self._gauge.set(0)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _register(self, seconds: int) -> int:
        """Register for so long, and return for how long it is.

        Raises:
            NotRegistered, Unreachable, NoAnswer, OSError
        """
        hop = self._hop = await self._registrar.find(self._door)
        request = self._write(seconds)
        answer = await self._wire.ask(request, hop)
        if answer.status_code in (401, 407):
            proof = self._registrar.proof(answer, request)
            if proof is None:
                raise NotRegistered("its challenge is of a kind that is not known here")
            request = self._write(seconds)
            request.headers.set_single(*proof)
            answer = await self._wire.ask(request, hop)
        if answer.status_code != 200:
            raise NotRegistered(f"it said {answer.status_code}")
        return self._read_expires(answer, seconds)

    def _write(self, seconds: int) -> SipRequest:
        registrar, scheme = self._registrar, "sips" if self._registrar.is_sips else "sip"
        contact = self._here.uri(registrar.transport, user=registrar.number, is_sips=registrar.is_sips)
        self._sequence += 1
        who = f"<{scheme}:{registrar.user}@{registrar.host}>"
        request = SipRequest(method="REGISTER", uri=f"{scheme}:{registrar.host}:{registrar.port}")
        for name, value in {
            "Via": f"{self._here.via(registrar.transport)};branch=z9hG4bK{secrets.token_hex(8)};rport",
            "From": f"{who};tag={self._tag}",
            "To": who,
            "Call-ID": self._call_id,
            "CSeq": f"{self._sequence} REGISTER",
            "Contact": f"<{contact}>",
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
