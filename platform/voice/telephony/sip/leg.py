"""A SIP dialog as a leg (RFC 3261, section 12): hold, keys, transfer, session timers, and its end from either side."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiosipua import Dialog, SipRequest, SipResponse
from aiosipua.dialog import dialog_matches, remote_cseq_valid

from voice.telephony.g711 import Samples
from voice.telephony.legs import Event, Leg, LineReport, TransferRefused
from voice.telephony.opus import OpusPacket
from voice.telephony.pacing import Pacer
from voice.telephony.sip.hops import Here, Hop, Transport, uri_at
from voice.telephony.sip.keys import PLAIN, RELAY, Way, read_info
from voice.telephony.sip.media import Media, NoCommonSound, read_offer, unanswered, write_answer, write_offer
from voice.telephony.sip.rtp import RtpLine
from voice.telephony.sip.srtp import NoCommonKey
from voice.telephony.sip.timers import SessionTimer
from voice.telephony.sip.wire import Arrived, NoAnswer, SipWire

log = structlog.get_logger(__name__)

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, NOTIFY, INFO"
LOOK_SECONDS = 0.25
TRANSFER_SECONDS = 30.0
"""How long the peer may take to put a caller through."""
MOST_EVENTS = 500
"""Ten seconds of sound that the bridge did not take: what comes after is dropped."""
FRAGMENT = re.compile(r"SIP/2\.0 (\d{3})")


class SipLeg(Leg):
    def __init__(
        self,
        wire: SipWire,
        dialog: Dialog,
        hop: Hop,
        *,
        here: Here,
        is_sips: bool,
        media: Media | None,
        timer: SessionTimer,
        media_timeout_seconds: float,
    ) -> None:
        """
        Args:
            hop: where the dialog's requests go; its address is the peer's.
            here: the address at which the peer reaches us.
            is_sips: whether its addresses ask for TLS all the way.
            media: what the peer offers; None: it gets an offer of ours.
        """
        self._offered_in: int | None = None
        """The CSeq of an INVITE that was answered with an offer, whose ACK is to bring the answer."""
        self._agreed = asyncio.Event()
        self._asks_for_offer = media is None
        media = media or unanswered()
        self.codec = media.codec.name
        self.line = RtpLine(codec=media.codec, keys_type=media.keys_type, hear=self._hear)
        self._wire = wire
        self._invite: SipRequest | None = None
        """The peer's, which we have answered."""
        self._dialog = dialog
        self._hop = hop
        self._peer_address = hop.address[0]
        self._here = here
        self._is_sips = is_sips
        self._media = media
        self._timer = timer
        self._media_timeout_seconds = media_timeout_seconds
        self._version = 1
        self._session = int(time.time())
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._pacer = Pacer(media.codec.voice(), self.line.send)
        self._tasks: list[asyncio.Task[None]] = []
        self._answered_at = time.monotonic()
        self._ended_at: float | None = None
        self._goodbye: asyncio.Task[None] | None = None
        self._transfer: asyncio.Future[int] | None = None
        """The status with which the peer put the other side through, once it is known."""

    @property
    def name(self) -> tuple[str, str]:
        """What its dialog's requests have in common."""
        return self._dialog.call_id, self._dialog.local_tag

    @property
    def seconds(self) -> float:
        """How long it was, or is so far."""
        return (self._ended_at or time.monotonic()) - self._answered_at

    @property
    def report(self) -> LineReport | None:
        return self.line.rtcp.report

    @property
    def is_over(self) -> bool:
        return self._ended_at is not None

    # --- its beginning ---------------------------------------------------------------------------------------------
    def accept(self, invite: Arrived) -> None:
        """Take the peer's call. The line is open. Wait with `wait_until_agreed` before anything is played."""
        self._invite = invite.request
        self._tasks = [asyncio.create_task(self._watch(), name="watch")]
        if self._asks_for_offer:
            self._answer_offer(invite, None)
        else:
            self._answer_offer(invite, self._media)
            self._agree()

    def write_offer(self) -> str:
        """Return what we offer to somebody whom we call. The line is open."""
        keys = self.line.encryption.offer() if self._is_secret else []
        return write_offer(**self._described(), crypto=keys, insists=self._is_sips)

    def begin(self, answer: SipResponse) -> None:
        """Talk to who has taken our call.

        Raises:
            NoCommonSound: there is a dialog nevertheless, which is to be hung up.
        """
        self._tasks = [asyncio.create_task(self._watch(), name="watch")]
        self._answered_at = time.monotonic()
        self._version += 1
        media = read_offer(answer.text, is_secret=self._is_secret)
        if self._is_sips and media.crypto is None:
            raise NoCommonSound("the answer has no key, and an address with sips asks for one")
        try:
            self.line.encryption.take_answer(media.crypto)
        except NoCommonKey as problem:
            raise NoCommonSound(str(problem)) from None
        self._take_media(media)
        self._agree()

    def _agree(self) -> None:
        """Begin to play, once what both sides speak is known."""
        self.codec = self._media.codec.name
        self._pacer = Pacer(self._media.codec.voice(), self.line.send)
        self._tasks += [
            asyncio.create_task(self._pacer.run(), name="play"),
            asyncio.create_task(self.line.tell(), name="tell of the line"),
        ]
        self._agreed.set()

    async def wait_until_agreed(self) -> bool:
        """Wait until both sides know of each other's sound; return whether the call goes on."""
        await self._agreed.wait()
        return not self.is_over

    def _answer_offer(self, arrived: Arrived, media: Media | None) -> None:
        """Take what the other side wants of its sound; None is a request that says nothing of that."""
        response = self._respond(arrived, 200, "OK")
        self._timer.write(response)
        ours, text = self._described(), ""
        if media is not None:
            text = write_answer(media, **ours, crypto=self.line.encryption.answer(media.crypto))
            self._take_media(media)
        elif arrived.request.method == "INVITE":
            # Who asks without an offer gets one, and answers it in the ACK (RFC 3261, section 13.2.1).
            keys = self.line.encryption.offer() if self._is_secret else []
            spoken = self._media.codec if self._agreed.is_set() else None
            text = write_offer(**ours, spoken=spoken, crypto=keys)
            self._offered_in = self._dialog.remote_cseq
        if text:
            self._version += 1
            response.text = text
            response.headers.set_single("Content-Type", "application/sdp")
        self._wire.answer(arrived, response, unanswered=self._lose)

    def _described(self) -> dict[str, Any]:
        """Return how our descriptions begin."""
        return {
            "host": self._here.host,
            "port": self.line.port,
            "session": self._session,
            "version": self._version,
        }

    def _take_media(self, media: Media) -> None:
        self._media = media
        self.line.codec, self.line.keys_type = media.codec, media.keys_type
        self.line.connect(media.address, self._peer_address, control=media.control)
        self.line.is_muted, self.line.is_deaf = not media.hears, media.is_held
        self.line.heard_at = time.monotonic()
        if media.is_held:
            self._pacer.clear()

    def _take_answer(self, request: SipRequest) -> None:
        """Take in an ACK: it may answer an offer of ours."""
        cseq = request.cseq
        if self._offered_in is None or cseq is None or cseq.seq != self._offered_in:
            return
        self._offered_in = None
        try:
            spoken = self.codec if self._agreed.is_set() else None
            media = read_offer(request.text, spoken=spoken, is_secret=self._is_secret)
            self.line.encryption.take_answer(media.crypto)
        except (NoCommonSound, NoCommonKey) as problem:
            log.info("sip.no_common_sound", problem=str(problem))
            if not self._agreed.is_set():  # otherwise all stays as it was
                self._lose()
            return
        self._take_media(media)
        if not self._agreed.is_set():
            self._agree()

    @property
    def _is_secret(self) -> bool:
        """Whether nobody else reads what both sides tell of keys."""
        return self._hop.transport is Transport.TLS

    # --- what the peer asks ----------------------------------------------------------------------------------------
    def take(self, arrived: Arrived) -> None:
        """Take a request inside the dialog."""
        request = arrived.request
        if not dialog_matches(self._dialog, request):
            self._refuse(arrived, 481, "Call Does Not Exist")
        elif self._is_secret and arrived.hop.transport is not Transport.TLS:
            # What was agreed in secret is not changed in the open.
            if request.method != "ACK":
                self._refuse(arrived, 403, "Forbidden")
        elif request.method == "ACK":
            self._take_answer(request)
        elif not remote_cseq_valid(self._dialog, request):
            self._refuse(arrived, 500, "Out Of Order")
        else:
            is_same = arrived.hop.transport is self._hop.transport and arrived.source[0] == self._peer_address
            if self._hop.transport.is_stream and is_same:
                self._hop = arrived.hop  # it may have connected anew
            match request.method:
                case "BYE":
                    self._refuse(arrived, 200, "OK")
                    self._end()
                case "INVITE" | "UPDATE":
                    self._take_offer(arrived)
                case "NOTIFY":
                    self._refuse(arrived, 200, "OK")
                    self._hear_of_transfer(request)
                case "INFO":
                    self._take_info(arrived)
                case "OPTIONS":
                    self._refuse(arrived, 200, "OK")
                case _:
                    self._refuse(arrived, 405, "Method Not Allowed")

    def _take_offer(self, arrived: Arrived) -> None:
        request = arrived.request
        if self._timer.is_too_short(request):
            response = self._respond(arrived, 422, "Session Interval Too Small")
            response.headers.set_single("Min-SE", str(self._timer.shortest_seconds))
            self._wire.answer(arrived, response)
            return
        if self._offered_in is not None and (request.body or request.method == "INVITE"):
            self._refuse(arrived, 491, "Request Pending")
            return
        try:
            media = None
            if request.body:
                media = read_offer(request.text, spoken=self.codec, is_secret=self._is_secret)
            self._timer.hear(request)
            self._answer_offer(arrived, media)
        except NoCommonSound as problem:
            log.info("sip.no_common_sound", problem=str(problem))
            self._refuse(arrived, 488, "Not Acceptable Here")

    def _take_info(self, arrived: Arrived) -> None:
        """Take a key; an INFO without a body asks whether we are there."""
        request = arrived.request
        kind = (request.get_header("content-type") or "").partition(";")[0].strip().lower()
        if not request.body:
            self._refuse(arrived, 200, "OK")
        elif kind not in (RELAY, PLAIN):
            response = self._respond(arrived, 415, "Unsupported Media Type")
            response.headers.set_single("Accept", f"{RELAY}, {PLAIN}")
            self._wire.answer(arrived, response)
        elif (digit := read_info(kind, request.text)) is None:
            self._refuse(arrived, 400, "No Such Key")
        else:
            self._refuse(arrived, 200, "OK")
            self.line.press(digit, Way.INFO)

    def _hear_of_transfer(self, request: SipRequest) -> None:
        status = FRAGMENT.match(request.text)
        if status and self._transfer is not None and not self._transfer.done() and int(status[1]) >= 200:
            self._transfer.set_result(int(status[1]))

    def _respond(self, arrived: Arrived, status: int, reason: str) -> SipResponse:
        response = self._dialog.create_response(arrived.request, status, reason, contact=self._contact)
        for route in arrived.request.headers.get("record-route"):
            response.headers.append("Record-Route", route)
        response.headers.set_single("Allow", ALLOW)
        return response

    def _refuse(self, arrived: Arrived, status: int, reason: str) -> None:
        self._wire.answer(arrived, self._respond(arrived, status, reason))

    # --- what comes of the line --------------------------------------------------------------------------------------
    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    def _hear(self, event: Event) -> None:
        if self._events.qsize() < MOST_EVENTS:
            self._events.put_nowait(event)

    async def _watch(self) -> None:
        """End the call whose other side is gone, and keep the session alive where that is ours to do."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            if not self._media.is_held and now - self.line.heard_at > self._media_timeout_seconds:
                log.warning("sip.silent", seconds=self._media_timeout_seconds)
                self._lose()
            elif self._timer.has_expired(now):
                log.warning("sip.expired")
                self._lose()
            elif self._timer.is_due(now):
                await self._refresh()

    async def _refresh(self) -> None:
        update = self._request("UPDATE")
        self._timer.write_refresh(update)
        try:
            answer = await self._wire.ask(update, self._hop)
        except NoAnswer:
            self._lose()
            return
        if answer.status_code in (408, 481):
            self._lose()
        self._timer.refreshed()

    # --- Leg -------------------------------------------------------------------------------------------------------
    async def play(self, frame: Samples | OpusPacket) -> None:
        if not self.line.is_muted:
            self._pacer.put(frame)

    async def clear(self) -> None:
        self._pacer.clear()

    async def wait_until_played(self) -> None:
        await self._pacer.wait_until_sent()

    async def hang_up(self) -> None:
        if not self.is_over:
            self._end()
            await self._say_goodbye()

    async def transfer(self, number: str) -> None:
        if self.is_over:
            raise TransferRefused("The caller is gone.")
        is_address = number.startswith(("sip:", "sips:"))
        at_peer = uri_at(self._hop.listens_at, self._hop.transport, user=number, is_sips=self._is_sips)
        target = number if is_address else at_peer
        refer = self._request("REFER")
        refer.headers.set_single("Refer-To", f"<{target}>")
        refer.headers.set_single("Referred-By", f"<{self._dialog.local_uri}>")
        self._transfer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(TRANSFER_SECONDS):
                answer = await self._wire.ask(refer, self._hop)
                status = await self._transfer if answer.status_code < 300 else answer.status_code
        except NoAnswer as problem:
            raise TransferRefused(str(problem)) from None
        except TimeoutError:
            raise TransferRefused("The peer did not say whether it put the caller through.") from None
        if status >= 300:
            raise TransferRefused(f"The peer did not put the caller through: {status}.")
        await self.hang_up()

    # --- its end ---------------------------------------------------------------------------------------------------
    def _lose(self) -> None:
        """End a call whose other side does not answer: it gets a BYE all the same."""
        if not self.is_over:
            self._end()
            self._goodbye = asyncio.create_task(self._say_goodbye(), name="say goodbye")

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(NoAnswer):
            await self._wire.ask(self._request("BYE"), self._hop)

    def _end(self) -> None:
        self._ended_at = time.monotonic()
        if self._invite is not None:
            self._wire.stop_repeating(self._invite)
        self.line.close()
        if self._transfer is not None and not self._transfer.done():
            self._transfer.set_result(200)  # whoever is put through hangs up on us
        self._pacer.clear()
        self._agreed.set()
        self._events.put_nowait(None)
        for task in self._tasks:
            task.cancel()

    def _request(self, method: str) -> SipRequest:
        """Return a request of ours. It goes where the INVITE came from, which is the next hop and passes each NAT."""
        transport = self._hop.transport
        request = self._dialog.create_request(
            method,
            via_host=self._here.host,
            via_port=self._here.port_of(transport),
            via_transport=transport.value,
        )
        request.headers.set_single("Contact", self._contact)
        return request

    @property
    def _contact(self) -> str:
        return f"<{self._here.uri(self._hop.transport, is_sips=self._is_sips)}>"


def is_sips(request: SipRequest) -> bool:
    """Return whether a request asks for TLS all the way."""
    return request.uri.lower().startswith("sips:")
