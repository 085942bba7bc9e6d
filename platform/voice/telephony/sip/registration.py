"""Telling a PBX or trunk where we are, and again before it forgets (RFC 3261, section 10)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import structlog
from aiosipua import SipRequest, SipResponse
from prometheus_client import Gauge

from voice.telephony.sip.door import Door
from voice.telephony.sip.hops import Here, Hop
from voice.telephony.sip.trunks import Trunk, Unreachable
from voice.telephony.sip.wire import NoAnswer, SipWire

log = structlog.get_logger(__name__)

REGISTERED = Gauge("warmline_sip_registered", "Whether a registrar knows where we are.", ["registrar"])
EXPIRES_SECONDS = 300
SHORTEST_SECONDS = 10
AGAIN_SECONDS = 30.0
"""After a refusal, or none at all."""
RECONNECT_SECONDS = 1.0
"""After the connection to it was lost, on which it would call us."""
GOODBYE_SECONDS = 1.0


class NotRegistered(Exception):
    """The registrar does not take us. The sentence is for the log."""


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
