"""SIP for a telephony process: calls that trunks and PBXs bring or take, each handed to the bridge as a leg."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import uuid
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog
from aiosipua import SipRequest, create_dialog_from_request
from aiosipua.dialog import Dialog
from prometheus_client import Counter

from voice.telephony.models import TelephoneLeg
from voice.telephony.routing import CallDeclined
from voice.telephony.saying import say_only
from voice.telephony.serving import Telephony
from voice.telephony.sip.answering import NoSuchNumber, Rung, ring
from voice.telephony.sip.calling import NotAnswered, Outgoing
from voice.telephony.sip.certificates import believed_authorities, own_certificate
from voice.telephony.sip.door import Door
from voice.telephony.sip.hops import Here, Hop, Transport
from voice.telephony.sip.leg import ALLOW, SipLeg, is_sips
from voice.telephony.sip.media import Media, NoCommonSound, read_offer
from voice.telephony.sip.options import SipOptions
from voice.telephony.sip.placing import Placed, claim, grant_call
from voice.telephony.sip.registration import Registration
from voice.telephony.sip.rtp import NoPortLeft
from voice.telephony.sip.timers import SessionTimer
from voice.telephony.sip.trunks import Trunk, Unreachable
from voice.telephony.sip.wire import Arrived, SipWire

log = structlog.get_logger(__name__)

REFUSED = Counter("warmline_sip_refused_total", "INVITEs of peers that were not answered, by status.", ["status"])
LONGEST_CALL_ID = 96
CLOSE_SECONDS = 5.0
GOODBYE_SECONDS = 2.0
EXTENSIONS = {"timer", "replaces", "100rel"}
"""What a peer may write into Require although we do not use all of it."""


@dataclasses.dataclass(eq=False)
class _Ringing:
    """An INVITE that has no final answer yet."""

    arrived: Arrived
    dialog: Dialog
    is_cancelled: bool = False


class SipEndpoint:
    def __init__(self, telephony: Telephony, options: SipOptions) -> None:
        """
        Raises:
            config.env.ConfigurationError
        """
        self._telephony = telephony
        self._options = options
        self._door = Door(options)
        self._wire = SipWire(
            self._door,
            self._take,
            most_connections=options.max_connections,
            certificate=own_certificate(options),
        )
        self._wire.streams.trust(believed_authorities(options))
        self._here = Here(options.public_address, options.port, options.tls_port)
        self._registrations = [
            Registration(self._wire, self._door, registrar, here=self._here) for registrar in Trunk.registrars(options)
        ]
        self._trunk = Trunk.for_calls(options)
        self._registering: list[asyncio.Task[None]] = []
        self._ringing: dict[tuple[str | None, str], _Ringing] = {}
        self._legs: dict[tuple[str, str], SipLeg] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_port = 0
        telephony.on_dial = self._dial

    async def start(self) -> None:
        options, wire = self._options, self._wire
        if Transport.UDP in options.transports:
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: wire.datagrams, local_addr=(options.host, options.port)
            )
        for transport in options.transports - {Transport.UDP}:
            wire.streams.listen(transport, options.host, self._here.port_of(transport))
        wire.streams.start()
        self._registering = [asyncio.create_task(each.keep(), name="register") for each in self._registrations]
        log.info(
            "sip.started", port=options.port, transports=sorted(options.transports), peers=len(options.allowed_peers)
        )

    async def close(self) -> None:
        """Stop listening, once the calls are over."""
        for task in self._registering:
            task.cancel()
        await asyncio.gather(*self._registering, return_exceptions=True)
        for seconds in (CLOSE_SECONDS, GOODBYE_SECONDS):
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=seconds)
            for task in self._tasks:  # who is still told something
                task.cancel()
        await self._wire.close()

    # --- requests --------------------------------------------------------------------------------------------------
    def _take(self, arrived: Arrived) -> None:
        try:
            self._decide(arrived)
        except Exception:
            log.exception("sip.failed", source=arrived.source[0])
            if arrived.request.method != "ACK":  # its repetitions would be taken for known, and never be answered
                self._refuse(arrived, 500, "Server Internal Error")

    def _decide(self, arrived: Arrived) -> None:
        request = arrived.request
        tag = request.to_addr.tag if request.to_addr else None
        leg = self._legs.get((request.call_id or "", tag or ""))
        if leg is not None:
            leg.take(arrived)
        elif request.method == "ACK":
            pass
        elif request.method == "CANCEL":
            self._cancel(arrived)
        elif tag:
            self._refuse(arrived, 481, "Call Does Not Exist")
        elif request.method == "OPTIONS":
            self._refuse(arrived, 200, "OK")
        elif request.method == "INVITE":
            self._invite(arrived)
        else:
            self._refuse(arrived, 405, "Method Not Allowed")

    def _cancel(self, arrived: Arrived) -> None:
        ringing = self._ringing.get(_name_of(arrived.request))
        if ringing is None or ringing.arrived.source[0] != arrived.source[0]:
            self._refuse(arrived, 481, "Call Does Not Exist")
            return
        self._wire.answer(arrived, ringing.dialog.create_response(arrived.request, 200, "OK"))
        if not ringing.is_cancelled:
            ringing.is_cancelled = True
            self._refuse(ringing.arrived, 487, "Request Terminated", ringing.dialog)

    def _invite(self, arrived: Arrived) -> None:
        request, source = arrived.request, arrived.source
        if not self._door.believes(arrived.peer, request, source[0]):
            challenge = self._door.challenge(request, source[0])
            self._refuse(arrived, 401, "Unauthorized", headers={"WWW-Authenticate": challenge})
            return
        strange = {each.strip().lower() for each in request.headers.get("require")} - EXTENSIONS
        timer = SessionTimer(self._options.min_session_seconds)
        if is_sips(request) and arrived.hop.transport is not Transport.TLS:
            self._refuse(arrived, 416, "Unsupported URI Scheme")
        elif strange:
            self._refuse(arrived, 420, "Bad Extension", headers={"Unsupported": ", ".join(sorted(strange))})
        elif timer.is_too_short(request):
            shortest = str(timer.shortest_seconds)
            self._refuse(arrived, 422, "Session Interval Too Small", headers={"Min-SE": shortest})
        elif self._telephony.is_draining or self._calls >= self._telephony.limits.max_calls:
            self._refuse(arrived, 503, "Service Unavailable")
        else:
            timer.hear(request)
            ringing = _Ringing(arrived, create_dialog_from_request(request))
            self._ringing[_name_of(request)] = ringing
            self._wire.answer(arrived, ringing.dialog.create_response(request, 100, "Trying"))
            self._begin(self._serve(ringing, timer))

    def _begin(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call, name="sip call")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def _calls(self) -> int:
        """How many the process has, of all carriers, those that ring among them."""
        return len(self._tasks) + max(0, self._telephony.calls - len(self._legs))

    def _refuse(
        self,
        arrived: Arrived,
        status: int,
        reason: str,
        dialog: Dialog | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer without a call. Not each of these is a refusal: OPTIONS get their 200 so."""
        dialog = dialog or create_dialog_from_request(arrived.request)
        response = dialog.create_response(arrived.request, status, reason)
        for name, value in {"Allow": ALLOW, **(headers or {})}.items():
            response.headers.set_single(name, value)
        if arrived.request.method == "INVITE":
            REFUSED.labels(str(status)).inc()
        self._wire.answer(arrived, response)

    # --- one call --------------------------------------------------------------------------------------------------
    async def _serve(self, ringing: _Ringing, timer: SessionTimer) -> None:
        """Answer an INVITE, hold its call until that is over, and write how it went."""
        arrived, request = ringing.arrived, ringing.arrived.request
        try:
            is_secret = arrived.hop.transport is Transport.TLS
            media = read_offer(request.text, is_secret=is_secret) if request.body else None
            rung = await ring(request, name=f"{(request.call_id or '')[:LONGEST_CALL_ID]};{ringing.dialog.local_tag}")
            leg = self._leg(ringing.dialog, arrived.hop, is_sips=is_sips(request), media=media, timer=timer)
            try:
                await leg.line.open(self._options.host, self._ports())
            except NoPortLeft:
                log.warning("sip.no_port_left")
                self._settle(ringing, 503, "Service Unavailable")
                await rung.record.finish(status=TelephoneLeg.Status.FAILED, problem=rung.problem)
                return
            if ringing.is_cancelled:
                leg.line.close()
                await rung.record.finish(status=TelephoneLeg.Status.CANCELLED, problem=rung.problem)
                return
        except NoCommonSound as problem:
            log.info("sip.no_common_sound", problem=str(problem))
            self._settle(ringing, 488, "Not Acceptable Here")
        except NoSuchNumber:
            self._settle(ringing, 404, "Not Found")
        except CallDeclined:
            self._settle(ringing, 480, "Temporarily Unavailable")
        except Exception:
            log.exception("sip.not_answered")
            self._settle(ringing, 500, "Server Internal Error")
        else:
            await self._hold(leg, rung, ringing)
        finally:
            self._ringing.pop(_name_of(request), None)

    def _settle(self, ringing: _Ringing, status: int, reason: str) -> None:
        if not ringing.is_cancelled:
            self._refuse(ringing.arrived, status, reason, ringing.dialog)

    async def _hold(self, leg: SipLeg, rung: Rung, ringing: _Ringing) -> None:
        self._legs[leg.name] = leg
        try:
            leg.accept(ringing.arrived)
            self._ringing.pop(_name_of(ringing.arrived.request), None)
            if not await leg.wait_until_agreed():
                pass
            elif rung.words:
                await rung.record.answered()
                await say_only(leg, rung.words)
            else:
                await self._telephony.hold(leg, rung.record, rung.ticket)
        finally:
            await leg.hang_up()
            del self._legs[leg.name]
            await rung.record.finish(
                status=TelephoneLeg.Status.COMPLETED, seconds=math.ceil(leg.seconds), problem=rung.problem
            )

    # --- calls of ours -----------------------------------------------------------------------------------------------
    def _dial(self, tenant_id: uuid.UUID, leg_id: uuid.UUID) -> None:
        """Place a call that waits, if there is room for it here; another process may have heard of it too."""
        if self._trunk is None or self._telephony.is_draining or self._calls >= self._telephony.limits.max_calls:
            return
        self._begin(self._place(self._trunk, tenant_id, leg_id))

    async def _place(self, trunk: Trunk, tenant_id: uuid.UUID, leg_id: uuid.UUID) -> None:
        try:
            placed = await claim(tenant_id, leg_id)
        except Exception:  # it waits on, and is heard of again
            log.exception("sip.not_claimed")
            return
        if placed is None:
            return
        end: dict[str, Any] = {"status": TelephoneLeg.Status.FAILED}
        try:
            leg = await self._ring(trunk, placed)
            try:
                await self._telephony.hold(leg, placed.record, await grant_call(placed.record))
            finally:
                await leg.hang_up()
                del self._legs[leg.name]
                end = {"status": TelephoneLeg.Status.COMPLETED, "seconds": math.ceil(leg.seconds)}
        except NotAnswered as problem:
            end = {"status": problem.status, "problem": str(problem)}
        except (Unreachable, OSError) as problem:
            log.warning("sip.trunk_unreachable", trunk=trunk.host, problem=str(problem))
            end["problem"] = "The trunk cannot be reached."
        except CallDeclined as problem:
            end["problem"] = str(problem)
        except Exception:
            log.exception("sip.not_placed")
            end["problem"] = "The call could not be placed."
        finally:
            await placed.record.finish(**end)

    async def _ring(self, trunk: Trunk, placed: Placed) -> SipLeg:
        """Return a leg that was answered.

        Raises:
            NotAnswered, Unreachable, OSError
        """
        hop = await trunk.find(self._door)
        outgoing = Outgoing(
            self._wire,
            trunk,
            hop,
            here=self._here,
            our_number=placed.our_number,
            to=placed.other_number,
            allow=ALLOW,
        )
        timer = SessionTimer(self._options.min_session_seconds)
        leg = self._leg(outgoing.dialog, hop, is_sips=trunk.is_sips, media=None, timer=timer)
        try:
            await leg.line.open(self._options.host, self._ports())
            answer = await outgoing.ask(leg.write_offer(), ring_seconds=self._options.ring_seconds)
        except NoPortLeft:
            raise NotAnswered(TelephoneLeg.Status.FAILED, "All lines are in use.") from None
        except BaseException:
            leg.line.close()
            raise
        self._legs[leg.name] = leg
        try:
            leg.begin(answer)
        except NoCommonSound as problem:
            log.info("sip.no_common_sound", problem=str(problem))
            await leg.hang_up()
            del self._legs[leg.name]
            raise NotAnswered(TelephoneLeg.Status.FAILED, "Both sides have no sound in common.") from None
        return leg

    # --- what both have in common ------------------------------------------------------------------------------------
    def _leg(self, dialog: Dialog, hop: Hop, *, is_sips: bool, media: Media | None, timer: SessionTimer) -> SipLeg:
        return SipLeg(
            self._wire,
            dialog,
            hop,
            here=self._here,
            is_sips=is_sips,
            media=media,
            timer=timer,
            media_timeout_seconds=self._options.media_timeout_seconds,
        )

    def _ports(self) -> list[int]:
        """Return the ports for sound, the one that was free longest first: late packets find no other's call."""
        ports = list(self._options.rtp_ports)
        self._next_port = (self._next_port + 1) % len(ports)
        return ports[self._next_port :] + ports[: self._next_port]


def _name_of(request: SipRequest) -> tuple[str | None, str]:
    """Return what an INVITE and its CANCEL have in common."""
    return request.via[0].branch, request.call_id or ""
