"""What both sides say of their sound: SDP offers and answers (RFC 3264), for sound and keys (RFC 4733)."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence

from aiosipua import SdpMessage, SdpNegotiationError, negotiate_sdp, parse_sdp, serialize_sdp
from aiosipua.sdp import MediaDescription

from voice.telephony.sip.codecs import OFFERED, Codec, choose
from voice.telephony.sip.rtp import NOWHERE
from voice.telephony.sip.srtp import Crypto, find_key

KEYS = "telephone-event"
HEARS = {"sendrecv", "recvonly"}
SPEAKS = {"sendrecv", "sendonly"}
PLAIN, ENCRYPTED = "RTP/AVP", "RTP/SAVP"
OUR_KEYS_TYPES = {8_000: 101, 48_000: 102}
"""Of pressed keys, by their clock, where the offer is ours."""


class NoCommonSound(Exception):
    """The offer has nothing that we speak. The sentence is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Media:
    """What the other side wants."""

    address: tuple[str, int]
    control: tuple[str, int] | None
    """Where it wants RTCP; None: where its sound goes."""
    codec: Codec
    keys_type: int | None
    """The payload type of pressed keys; None where they are not sent."""
    keys_clock_hz: int
    hears: bool
    speaks: bool
    """What it says to us otherwise is music for one who waits."""
    offer: SdpMessage
    crypto: Crypto | None = None
    """With which its sound is encrypted."""

    @property
    def is_held(self) -> bool:
        return not (self.hears and self.speaks)


def read_offer(text: str, *, spoken: str | None = None, is_secret: bool = False) -> Media:
    """Read an offer, or the answer to one of ours.

    Args:
        spoken: the codec spoken so far.
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
    chosen = choose(audio, spoken=spoken)
    if chosen is None:
        raise NoCommonSound(f"{spoken} is not offered again" if spoken else "neither Opus nor G.711 is offered")
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
    keys_type, keys_clock_hz = _find_keys(audio, chosen)
    return Media(
        address=(host, port),
        control=_find_control(audio, host, port),
        codec=chosen,
        keys_type=keys_type,
        keys_clock_hz=keys_clock_hz,
        hears=direction in HEARS and host != NOWHERE,
        speaks=direction in SPEAKS,
        offer=offer,
        crypto=crypto,
    )


def _find_control(audio: MediaDescription, host: str, port: int) -> tuple[str, int] | None:
    if "rtcp-mux" in audio.attributes:
        return None
    told = (audio.attributes.get("rtcp") or [""])[0].split()  # RFC 3605: a port, and perhaps IN IP4 and an address
    if not told or not told[0].isdecimal() or len(told[0]) > 5 or not 0 < int(told[0]) < 65536:
        return host, min(port + 1, 65535)
    try:
        return str(ipaddress.IPv4Address(told[3])), int(told[0])
    except (LookupError, ValueError):
        return host, int(told[0])


def _find_keys(audio: MediaDescription, codec: Codec) -> tuple[int | None, int]:
    """Return payload type and clock of pressed keys: they share the sound's clock where the offer lets them."""
    clocks = {each.clock_rate: each.payload_type for each in audio.codecs if each.encoding_name.lower() == KEYS}
    for clock_hz in (codec.clock_hz, 8000):
        if clock_hz in clocks:
            return clocks[clock_hz], clock_hz
    return None, codec.clock_hz


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
            [media.codec.payload_type],
            dtmf_payload_type=0,
            session_id=str(session),
            session_name="Warmline",
        )
    except SdpNegotiationError as problem:
        raise NoCommonSound(str(problem)) from None
    answer.origin.session_version = str(version)
    sound = next(each for each in answer.media if each.media == "audio")
    sound.attributes["ptime"] = ["20"]
    sound.attributes["rtpmap"] = [f"{media.codec.payload_type} {media.codec.rtpmap}"]
    formats = [f"{media.codec.payload_type} {media.codec.fmtp}"] if media.codec.fmtp else []
    if media.keys_type is not None:
        sound.formats.append(str(media.keys_type))
        sound.attributes["rtpmap"].append(f"{media.keys_type} {KEYS}/{media.keys_clock_hz}")
        formats.append(f"{media.keys_type} 0-15")
    if formats:
        sound.attributes["fmtp"] = formats
    if media.control is None:
        sound.attributes["rtcp-mux"] = []
    if crypto:
        sound.attributes["crypto"] = list(crypto)
    return serialize_sdp(answer)


def write_offer(
    *,
    spoken: Codec | None = None,
    host: str,
    port: int,
    session: int,
    version: int,
    crypto: Sequence[str] = (),
    insists: bool = False,
) -> str:
    """Return an offer of ours; `spoken` is the codec spoken so far.

    With keys it is for whoever can encrypt, and for others as it would be without (RFC 8643), unless it `insists`.
    """
    codecs = (spoken,) if spoken else OFFERED
    clocks = {each.clock_hz for each in codecs} | {8_000}
    keys = {OUR_KEYS_TYPES[clock_hz]: clock_hz for clock_hz in sorted(clocks)}
    types = [*(each.payload_type for each in codecs), *keys]
    lines = [
        "v=0",
        f"o=- {session} {version} IN IP4 {host}",
        "s=Warmline",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} {ENCRYPTED if insists else PLAIN} {' '.join(map(str, types))}",
        *(f"a=rtpmap:{each.payload_type} {each.rtpmap}" for each in codecs),
        *(f"a=fmtp:{each.payload_type} {each.fmtp}" for each in codecs if each.fmtp),
        *(f"a=rtpmap:{number} {KEYS}/{clock_hz}" for number, clock_hz in keys.items()),
        *(f"a=fmtp:{number} 0-15" for number in keys),
        *(f"a=crypto:{line}" for line in crypto),
        "a=ptime:20",
        "a=sendrecv",
    ]
    return "\r\n".join([*lines, ""])


def unanswered() -> Media:
    """Return what is known of the other side before it has answered an offer of ours: it hears nothing yet."""
    return read_offer(write_offer(host=NOWHERE, port=9, session=0, version=0))
