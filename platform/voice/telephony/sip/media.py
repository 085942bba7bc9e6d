"""What both sides say of their sound: SDP offers and answers (RFC 3264), for G.711 and keys (RFC 4733)."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence

from aiosipua import SdpMessage, SdpNegotiationError, negotiate_sdp, parse_sdp, serialize_sdp

from voice.telephony.g711 import PCMA, PCMU, Law
from voice.telephony.sip.srtp import Crypto, find_key

KEYS = "telephone-event"
HEARS = {"sendrecv", "recvonly"}
SPEAKS = {"sendrecv", "sendonly"}
PLAIN, ENCRYPTED = "RTP/AVP", "RTP/SAVP"
OUR_KEYS_TYPE = 101
"""Of pressed keys, where the offer is ours."""
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
    crypto: Crypto | None = None
    """With which its sound is encrypted."""

    @property
    def is_held(self) -> bool:
        return not (self.hears and self.speaks)


def read_offer(text: str, *, law: Law | None = None, is_secret: bool = False) -> Media:
    """Read an offer, or the answer to one of ours.

    Args:
        law: the one spoken so far.
        is_secret: whether it came over TLS: keys that others could read are none.

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
    crypto = find_key(audio.attributes.get("crypto", [])) if is_secret else None
    if audio.proto not in (PLAIN, ENCRYPTED):
        raise NoCommonSound(f"{audio.proto[:20]} is not spoken")
    if audio.proto == ENCRYPTED and crypto is None:
        raise NoCommonSound("no key of SRTP that we speak" if is_secret else "keys of SRTP are taken over TLS only")
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
        crypto=crypto,
    )


def write_answer(media: Media, *, host: str, port: int, session: int, version: int, crypto: Sequence[str] = ()) -> str:
    """Return our answer: where our sound comes from and goes to, and with which key.

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
        if crypto and each.media == "audio":
            each.attributes["crypto"] = list(crypto)
    return serialize_sdp(answer)


def write_offer(
    *, law: Law | None = None, host: str, port: int, session: int, version: int, crypto: Sequence[str] = ()
) -> str:
    """Return an offer of ours, for a peer that asks for one; `law` is the one spoken so far.

    With keys it is for whoever can encrypt, and for others as it would be without (RFC 8643).
    """
    laws = (law,) if law else (PCMU, PCMA)
    lines = [
        "v=0",
        f"o=- {session} {version} IN IP4 {host}",
        "s=Warmline",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} {PLAIN} {' '.join(str(each.payload_type) for each in laws)} {OUR_KEYS_TYPE}",
        *(f"a=rtpmap:{each.payload_type} {each.name}/8000" for each in laws),
        f"a=rtpmap:{OUR_KEYS_TYPE} {KEYS}/8000",
        f"a=fmtp:{OUR_KEYS_TYPE} 0-15",
        *(f"a=crypto:{line}" for line in crypto),
        "a=ptime:20",
        "a=sendrecv",
    ]
    return "\r\n".join([*lines, ""])


def unanswered() -> Media:
    """Return what is known of the other side before it has answered an offer of ours: it hears nothing yet."""
    return read_offer(write_offer(host=NOWHERE, port=9, session=0, version=0))
