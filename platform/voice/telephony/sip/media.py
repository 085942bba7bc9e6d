"""What both sides say of their sound: SDP offers and answers (RFC 3264), for G.711 and keys (RFC 4733)."""

from __future__ import annotations

import dataclasses
import ipaddress

from aiosipua import SdpMessage, SdpNegotiationError, negotiate_sdp, parse_sdp, serialize_sdp

from voice.telephony.g711 import PCMA, PCMU, Law

KEYS = "telephone-event"
HEARS = {"sendrecv", "recvonly"}
SPEAKS = {"sendrecv", "sendonly"}
NOWHERE = "0.0.0.0"  # noqa: S104  (an old way to hold a call)


class NoCommonSound(Exception):
    """The offer has nothing that we speak. The sentence is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Media:
    """What the other side wants."""

    address: tuple[str, int]
    law: Law
    keys_type: int | None
    """The payload type of pressed keys; None where they are not sent."""
    hears: bool
    speaks: bool
    """What it says to us otherwise is music for one who waits."""
    offer: SdpMessage

    @property
    def is_held(self) -> bool:
        return not (self.hears and self.speaks)


def read_offer(text: str, *, law: Law | None = None) -> Media:
    """Read an offer; `law` is the one spoken so far.

    Raises:
        NoCommonSound
    """
    try:
        offer = parse_sdp(text)
    except (ValueError, LookupError) as problem:
        raise NoCommonSound(f"the description cannot be read: {problem}") from None
    audio = offer.audio
    if audio is None or offer.rtp_address is None:
        raise NoCommonSound("no sound is offered")
    if audio.proto != "RTP/AVP":
        raise NoCommonSound(f"{audio.proto[:20]} is not spoken")
    wanted = (law,) if law else (PCMU, PCMA)
    chosen = next((each for codec in audio.codecs for each in wanted if codec.payload_type == each.payload_type), None)
    if chosen is None:
        raise NoCommonSound("neither law of G.711 is offered")
    host, port = offer.rtp_address
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise NoCommonSound("the address of the sound is not IPv4") from None
    if not 0 < port < 65536 or address.is_multicast:
        raise NoCommonSound("the sound has no address")
    directions = [name for name in ("sendrecv", "sendonly", "recvonly", "inactive") if name in offer.attributes]
    direction = audio.direction
    if direction not in audio.attributes and directions:
        direction = directions[0]
        audio.attributes[direction] = []
    keys = (each for each in audio.codecs if each.encoding_name.lower() == KEYS and each.clock_rate == 8000)
    return Media(
        address=(host, port),
        law=chosen,
        keys_type=next((each.payload_type for each in keys), None),
        hears=direction in HEARS and host != NOWHERE,
        speaks=direction in SPEAKS,
        offer=offer,
    )


def write_answer(media: Media, *, host: str, port: int, session: int, version: int) -> str:
    """Return our answer: where our sound comes from and goes to.

    Raises:
        NoCommonSound
    """
    try:
        answer, _ = negotiate_sdp(
            media.offer,
            host,
            port,
            [media.law.payload_type],
            dtmf_payload_type=media.keys_type or 0,
            session_id=str(session),
            session_name="Warmline",
        )
    except SdpNegotiationError as problem:
        raise NoCommonSound(str(problem)) from None
    answer.origin.session_version = str(version)
    for each in answer.media:
        if "ptime" in each.attributes:
            each.attributes["ptime"] = ["20"]
    return serialize_sdp(answer)
