"""PBXs and trunks that we ask: where they are, and how they know us."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import socket
from typing import Self

from aiosipua import SipDigestAuth, SipRequest, SipResponse
from aiosipua.auth import answer_challenge

from config import env
from voice.telephony.sip.door import Door
from voice.telephony.sip.hops import Hop, Transport
from voice.telephony.sip.options import SipOptions

FORM = re.compile(
    r"(?P<scheme>sips?):(?:(?P<user>[^@:;\s]+)@)?(?P<host>[^@:;\s]+)(?::(?P<port>\d{1,5}))?"
    r"(?:;transport=(?P<transport>udp|tcp|tls))?(?:;number=(?P<number>\+[1-9]\d{6,14}))?"
)


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
