"""SIP messages in and out, once each (RFC 3261, section 17), over UDP and streams. What they mean is the endpoint's.

Messages are aiosipua's. Its own transactions do not know a request that comes twice, and let go of an answer that got
lost; so both are here. Memory is bounded: a flood makes us forget sooner.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import time
from collections.abc import Callable
from ssl import SSLContext
from typing import Any, cast

import structlog
from aiosipua import SipMessage, SipRequest, SipResponse, parse_via, stringify_via

from voice.telephony.sip.door import DROPPED, Door, Peer
from voice.telephony.sip.framing import LONGEST_MESSAGE_BYTES
from voice.telephony.sip.hops import Address, Hop, Transport
from voice.telephony.sip.streams import Streams

log = structlog.get_logger(__name__)
# It would write a line for each body that is shorter than was said: who floods us would flood the log.
logging.getLogger("aiosipua").setLevel(logging.ERROR)

SHORTEST_MESSAGE_BYTES = 16
"""Less keeps a NAT open, and says nothing."""
T1_SECONDS, T2_SECONDS = 0.5, 4.0
LIFETIME_SECONDS = 32.0
"""How long a request may come again, and a final answer to an INVITE waits for its ACK."""
GIVE_UP_SECONDS = 8.0
"""How long a request of ours waits for its answer."""
MOST_REMEMBERED = 4096
MOST_UNACKNOWLEDGED = 256
"""Refusals that are repeated."""


class NoAnswer(Exception):
    """The peer did not answer a request."""


@dataclasses.dataclass(eq=False)
class Arrived:
    """A request with where it came from. `key` is the same for each copy of it."""

    request: SipRequest
    peer: Peer
    source: Address
    hop: Hop
    """Where it is answered, and its dialog's requests go."""
    key: tuple[Any, ...]


@dataclasses.dataclass(eq=False)
class _Remembered:
    until: float
    answer: bytes | None = None


@dataclasses.dataclass(eq=False)
class _Asked:
    """A request of ours that waits for its answer."""

    answer: asyncio.Future[SipResponse]
    is_heard: bool = False
    """A provisional answer came: the peer works on it."""


class Datagrams(asyncio.DatagramProtocol):
    """The socket of SIP over UDP."""

    def __init__(self, door: Door, hear: Callable[[bytes, Peer, Transport, Address], None]) -> None:
        self._door = door
        self._hear = hear
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        peer = self._door.find(address[0])
        if peer is None:
            DROPPED.labels("stranger").inc()
        elif not peer.may_send():
            DROPPED.labels("flood").inc()
        elif len(data) >= SHORTEST_MESSAGE_BYTES:
            self._hear(data, peer, Transport.UDP, address[:2])

    def send(self, data: bytes, to: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, to)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class SipWire:
    def __init__(
        self,
        door: Door,
        take: Callable[[Arrived], None],
        *,
        most_connections: int,
        certificate: SSLContext | None = None,
    ) -> None:
        self.datagrams = Datagrams(door, self.hear)
        self.streams = Streams(door, self.hear, most=most_connections, certificate=certificate)
        self._take = take
        self._remembered: collections.OrderedDict[tuple[Any, ...], _Remembered] = collections.OrderedDict()
        self._unacknowledged: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._acknowledged: collections.OrderedDict[tuple[str, str], tuple[bytes, Hop]] = collections.OrderedDict()
        """ACKs of ours, which are sent again where the answer comes again."""

    # --- in --------------------------------------------------------------------------------------------------------
    def hear(self, data: bytes, peer: Peer, transport: Transport, source: Address) -> None:
        """Take in a message of a peer's that may send one."""
        try:
            message = _read(data)
            arrived = self._arrive(message, peer, transport, source) if isinstance(message, SipRequest) else None
        except (ValueError, LookupError, UnboundLocalError) as problem:  # the last: a Via without a slash
            DROPPED.labels("malformed").inc()
            log.debug("sip.malformed", source=source[0], problem=str(problem)[:100])
            return
        try:
            if arrived is not None:
                self._hear_request(arrived)
            elif isinstance(message, SipResponse):
                self._hear_answer(message)
        except Exception:
            log.exception("sip.failed", source=source[0])

    def _arrive(self, request: SipRequest, peer: Peer, transport: Transport, source: Address) -> Arrived:
        """Write into the topmost Via where it came from (RFC 3581), so that the answer finds back."""
        vias = list(request.headers.get("via"))
        via = parse_via(vias[0])
        listens_at = source[0], via.port or transport.default_port
        answers_at = source if transport.is_stream or "rport" in via.params else listens_at
        hop = Hop(transport, answers_at, listens_at if transport.is_stream else answers_at, via.host)
        via.params["received"] = source[0]
        if "rport" in via.params:
            via.params["rport"] = str(source[1])
        request.headers.remove("via")
        for value in (stringify_via(via), *vias[1:]):
            request.headers.append("Via", value)
        cseq = request.cseq
        assert cseq is not None
        if cseq.method.upper() != request.method or not 0 <= cseq.seq < 1 << 31:
            raise ValueError("CSeq is of another method, or out of its range")
        return Arrived(request, peer, source, hop, (via.branch, request.call_id, cseq.seq, request.method, source))

    def _hear_request(self, arrived: Arrived) -> None:
        if arrived.request.method == "ACK":
            self.stop_repeating(arrived.request)
            self._take(arrived)
            return
        known = self._remembered.get(arrived.key)
        if known is not None:
            if known.answer is not None:
                self._send(known.answer, arrived.hop)
            return
        now = time.monotonic()
        while self._remembered and (
            len(self._remembered) >= MOST_REMEMBERED or next(iter(self._remembered.values())).until < now
        ):
            self._remembered.popitem(last=False)
        self._remembered[arrived.key] = _Remembered(now + LIFETIME_SECONDS)
        self._take(arrived)

    def _hear_answer(self, response: SipResponse) -> None:
        cseq = response.cseq
        method = cseq.method if cseq else ""
        asked = self._asked.get((response.via[0].branch or "", method))
        if asked is not None and not asked.answer.done():
            asked.is_heard = True
            if response.status_code >= 200:
                asked.answer.set_result(response)
        elif method == "INVITE" and (known := self._acknowledged.get(_of_invite(response))) is not None:
            self._send(*known)

    # --- out -------------------------------------------------------------------------------------------------------
    def answer(self, arrived: Arrived, response: SipResponse, *, unanswered: Callable[[], None] = lambda: None) -> None:
        """Answer a request; a final answer to an INVITE is sent until its ACK comes, or `unanswered` is called."""
        data = bytes(response)
        if (known := self._remembered.get(arrived.key)) is not None:
            known.answer = data
        self._send(data, arrived.hop)
        if arrived.request.method != "INVITE" or response.status_code < 200:
            return
        if response.status_code >= 300 and arrived.hop.transport.is_stream:
            return  # it arrives by itself; a 2xx is for the far end, which other hops may lie before
        # A crowd that is refused and says nothing more must not keep those who are answered from hearing so.
        if response.status_code < 300 or len(self._unacknowledged) < MOST_UNACKNOWLEDGED:
            self.stop_repeating(arrived.request)
            self._repeat(arrived, data, T1_SECONDS, time.monotonic() + LIFETIME_SECONDS, unanswered)

    def _repeat(
        self, arrived: Arrived, data: bytes, after_seconds: float, until: float, unanswered: Callable[[], None]
    ) -> None:
        key = _of_invite(arrived.request)

        def again() -> None:
            self._unacknowledged.pop(key, None)
            if time.monotonic() >= until:
                unanswered()
                return
            self._send(data, arrived.hop)
            self._repeat(arrived, data, min(2 * after_seconds, T2_SECONDS), until, unanswered)

        self._unacknowledged[key] = asyncio.get_running_loop().call_later(after_seconds, again)

    def stop_repeating(self, request: SipRequest) -> None:
        """Take an answer to an INVITE for heard. `request`: the INVITE, or its ACK."""
        if (waiting := self._unacknowledged.pop(_of_invite(request), None)) is not None:
            waiting.cancel()

    async def ask(
        self, request: SipRequest, to: Hop, *, seconds: float = GIVE_UP_SECONDS, ring_seconds: float = 0.0
    ) -> SipResponse:
        """Send a request of ours until its final answer comes, and return that.

        Args:
            ring_seconds: of an INVITE, how long a peer that has said something may take for its final answer.

        Raises:
            NoAnswer
        """
        key = request.via[0].branch or "", request.method
        asked = self._asked[key] = _Asked(asyncio.get_running_loop().create_future())
        data, began = bytes(request), time.monotonic()
        wait_seconds = seconds if to.transport.is_stream else T1_SECONDS
        try:
            while (left := began + max(seconds, ring_seconds * asked.is_heard) - time.monotonic()) > 0:
                if not (ring_seconds and asked.is_heard):
                    self._send(data, to)
                done, _ = await asyncio.wait({asked.answer}, timeout=min(wait_seconds, left))
                if done:
                    return asked.answer.result()
                wait_seconds = min(2 * wait_seconds, T2_SECONDS)
            raise NoAnswer(f"{request.method} was not answered within {max(seconds, ring_seconds * asked.is_heard)} s")
        finally:
            del self._asked[key]

    def acknowledge(self, ack: SipRequest, to: Hop) -> None:
        """Say that the final answer to an INVITE of ours was heard: now, and whenever it comes again."""
        data = bytes(ack)
        while len(self._acknowledged) >= MOST_UNACKNOWLEDGED:
            self._acknowledged.popitem(last=False)
        self._acknowledged[_of_invite(ack)] = data, to
        self._send(data, to)

    async def close(self) -> None:
        for waiting in self._unacknowledged.values():
            waiting.cancel()
        self.datagrams.close()
        await self.streams.close()

    def _send(self, data: bytes, to: Hop) -> None:
        if to.transport.is_stream:
            self.streams.send(data, to)
        else:
            self.datagrams.send(data, to.address)


def _of_invite(message: SipMessage) -> tuple[str, str]:
    """Return what an INVITE, its answer and its ACK have in common: the ACK of a 2xx has another branch."""
    return message.call_id or "", (message.get_header("cseq") or "").partition(" ")[0]


def _read(data: bytes) -> SipRequest | SipResponse:
    """
    Raises:
        ValueError, LookupError: this is no SIP message, or something that each has is missing.
    """
    if len(data) > LONGEST_MESSAGE_BYTES:
        raise ValueError("it is too long")
    message = SipMessage.parse(data)
    for name in ("via", "from", "to", "call-id", "cseq"):
        if not message.get_header(name):
            raise ValueError(f"{name} is missing")
    if not parse_via(message.headers.get("via")[0]).host or message.cseq is None:
        raise ValueError("Via or CSeq cannot be read")
    if isinstance(message, SipRequest):
        message.method = message.method.upper()
        if message.from_addr is None or not message.from_addr.tag:
            raise ValueError("From has no tag")
    return message
