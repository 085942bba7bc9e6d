"""Calls that we place over a trunk: asked for, acknowledged, and taken back (RFC 3261, sections 9, 13.2 and 17.1)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from aiosipua import Dialog, SipRequest, SipResponse
from aiosipua.headers import stringify_uri

from voice.telephony.models import TelephoneLeg
from voice.telephony.sip.hops import Here, Hop, uri_at
from voice.telephony.sip.trunks import Trunk
from voice.telephony.sip.wire import NoAnswer, SipWire

GOODBYE_SECONDS = 2.0
"""How long a call that is taken back is waited for: its answer may have been on its way."""
BUSY, DECLINED = {486, 600}, {603}
NO_ANSWER = {408, 480, 487}
LONGEST_REASON = 60


class NotAnswered(Exception):
    """Nobody talks to us. `status` is a leg's, the sentence is for its record."""

    def __init__(self, status: TelephoneLeg.Status, sentence: str = "") -> None:
        super().__init__(sentence)
        self.status = status


class Outgoing:
    """One call of ours, until somebody has answered."""

    def __init__(
        self, wire: SipWire, trunk: Trunk, hop: Hop, *, here: Here, our_number: str, to: str, allow: str
    ) -> None:
        """
        Args:
            our_number, to: E.164.
            allow: the methods that its dialog takes.
        """
        self._wire = wire
        self._trunk = trunk
        self._hop = hop
        self._here = here
        self._contact = here.uri(hop.transport, user=our_number, is_sips=trunk.is_sips)
        self._allow = allow
        scheme = "sips" if trunk.is_sips else "sip"
        target = uri_at((trunk.host, trunk.port), hop.transport, user=to, is_sips=trunk.is_sips)
        self.dialog = Dialog(
            call_id=secrets.token_hex(16),
            local_tag=secrets.token_hex(8),
            local_uri=f"{scheme}:{our_number}@{trunk.host}",
            remote_uri=f"{scheme}:{to}@{trunk.host}",
            remote_target=target,
        )

    async def ask(self, offer: str, *, ring_seconds: float) -> SipResponse:
        """Ring, and return with what it was answered; the dialog stands then.

        Args:
            offer: what we say of our sound.

        Raises:
            NotAnswered
        """
        request = self._write(offer)
        answer = await self._invite(request, ring_seconds)
        if answer.status_code in (401, 407) and (proof := self._trunk.proof(answer, request)) is not None:
            request = self._write(offer)
            request.headers.set_single(*proof)
            answer = await self._invite(request, ring_seconds)
        if answer.status_code >= 300:
            raise _refusal(answer)
        return answer

    def _write(self, offer: str) -> SipRequest:
        request = self._request("INVITE")
        request.headers.set_single("Contact", f"<{self._contact}>")
        request.headers.set_single("Allow", self._allow)
        request.headers.set_single("Content-Type", "application/sdp")
        request.text = offer
        return request

    def _request(self, method: str) -> SipRequest:
        transport = self._hop.transport
        return self.dialog.create_request(
            method, via_host=self._here.host, via_port=self._here.port_of(transport), via_transport=transport.value
        )

    async def _invite(self, request: SipRequest, ring_seconds: float) -> SipResponse:
        """Send an INVITE and return its final answer, acknowledged.

        Raises:
            NotAnswered
        """
        ask = self._wire.ask(request, self._hop, ring_seconds=ring_seconds + 2 * GOODBYE_SECONDS)
        asking = asyncio.create_task(ask, name="invite")
        try:
            async with asyncio.timeout(ring_seconds):
                answer = await asyncio.shield(asking)
        except TimeoutError:
            answer = await self._take_back(request, asking)
        except NoAnswer:
            raise NotAnswered(TelephoneLeg.Status.FAILED, "The trunk did not answer.") from None
        except asyncio.CancelledError:
            with contextlib.suppress(NotAnswered, NoAnswer):
                answer = self._acknowledge(request, await self._take_back(request, asking))
                if answer.status_code < 300:
                    await self._wire.ask(self._request("BYE"), self._hop, seconds=GOODBYE_SECONDS)
            raise
        return self._acknowledge(request, answer)

    def _acknowledge(self, request: SipRequest, answer: SipResponse) -> SipResponse:
        if answer.status_code < 300:
            self._stand(answer)
            ack = self._request("ACK")
            self.dialog.local_cseq -= 1  # an ACK has its INVITE's
            ack.headers.set_single("CSeq", f"{self.dialog.local_cseq} ACK")
        else:
            ack = _same_hop(request, "ACK", to=answer.get_header("to"))
        self._wire.acknowledge(ack, self._hop)
        return answer

    async def _take_back(self, request: SipRequest, asking: asyncio.Task[SipResponse]) -> SipResponse:
        """Ring no more, and return the final answer: somebody may have answered at that moment."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._wire.ask(_same_hop(request, "CANCEL"), self._hop)
                return await asyncio.shield(asking)
        except (NoAnswer, TimeoutError):
            raise NotAnswered(TelephoneLeg.Status.NO_ANSWER) from None
        finally:
            asking.cancel()

    def _stand(self, answer: SipResponse) -> None:
        """Take in who has answered (RFC 3261, section 12.1.2)."""
        dialog, to = self.dialog, answer.to_addr
        dialog.remote_tag = (to.tag if to else None) or ""
        if answer.contact:
            dialog.remote_target = stringify_uri(answer.contact[0].uri)
        dialog.route_set = list(reversed(answer.headers.get("record-route")))
        dialog.confirm()


def _same_hop(invite: SipRequest, method: str, *, to: str | None = None) -> SipRequest:
    """Return a request that goes the way of an INVITE, and no further than that did."""
    request = SipRequest(method=method, uri=invite.uri)
    sequence = (invite.get_header("cseq") or "").partition(" ")[0]
    for name in ("Via", "From", "To", "Call-ID", "Max-Forwards"):
        request.headers.append(name, (to if name == "To" else None) or invite.get_header(name.lower()) or "")
    request.headers.append("CSeq", f"{sequence} {method}")
    return request


def _refusal(answer: SipResponse) -> NotAnswered:
    status, said = TelephoneLeg.Status, answer.status_code
    if said in BUSY | DECLINED:
        return NotAnswered(status.BUSY)
    if said in NO_ANSWER:
        return NotAnswered(status.NO_ANSWER)
    return NotAnswered(status.FAILED, f"The trunk refused the call: {said} {answer.reason_phrase[:LONGEST_REASON]}")
