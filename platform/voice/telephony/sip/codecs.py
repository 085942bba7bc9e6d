"""The codecs of a SIP call: how RTP and SDP speak of them, and which of those offered is taken.

Opus (RFC 7587) goes before G.711 wherever it is offered: it sounds better, and its packets pass on as they are.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from aiosipua.sdp import Codec as Offered
from aiosipua.sdp import MediaDescription

from voice.telephony import opus
from voice.telephony.g711 import PCMA, PCMU, Law, Samples
from voice.telephony.legs import OPUS
from voice.telephony.opus import OpusPacket
from voice.telephony.pacing import Voice
from voice.telephony.transcoding import OpusVoice

ENGINE_FORMAT = "maxplaybackrate=24000;sprop-maxcapturerate=24000"
"""What engines hear and say: more would be lost."""
OUR_BITS_PER_SECOND = 26_000
"""Engines write about so much of Opus, and a little more at times."""
OUR_FRAME_MS = 40
"""Engines' packets last so long where their coder made one frame of that, which cannot be cut."""
LONGEST_PIECE_SAMPLES = 8_000


class Codec(Protocol):
    """One that both sides speak."""

    @property
    def name(self) -> str:
        """RTP's."""

    @property
    def payload_type(self) -> int: ...

    @property
    def clock_hz(self) -> int: ...

    @property
    def ticks(self) -> int:
        """Of that clock, to a sample at 8 kHz."""

    @property
    def rtpmap(self) -> str: ...

    @property
    def fmtp(self) -> str:
        """What we say of our side of it; empty: nothing."""

    def decode(self, payload: bytes) -> Samples | OpusPacket | None:
        """Return the piece that a packet carries; None where it is not of the codec's form."""

    def silence(self, piece: Samples | OpusPacket) -> Samples | OpusPacket:
        """Return a piece as long, in which nothing is heard."""

    def voice(self) -> Voice: ...


@dataclasses.dataclass(frozen=True)
class G711:
    law: Law
    clock_hz = 8_000
    ticks = 1
    fmtp = ""

    @property
    def name(self) -> str:
        return self.law.name

    @property
    def payload_type(self) -> int:
        return self.law.payload_type

    @property
    def rtpmap(self) -> str:
        return f"{self.name}/8000"

    def decode(self, payload: bytes) -> Samples | None:
        return self.law.decode(payload) if 0 < len(payload) <= LONGEST_PIECE_SAMPLES else None

    def silence(self, piece: Samples | OpusPacket) -> Samples:
        return np.zeros(len(piece), np.float32)

    def voice(self) -> Voice:
        return self.law


@dataclasses.dataclass(frozen=True)
class Opus:
    payload_type: int
    name = OPUS
    clock_hz = opus.CLOCK_HZ
    ticks = opus.TICKS
    rtpmap = "opus/48000/2"
    fmtp = ENGINE_FORMAT

    def decode(self, payload: bytes) -> OpusPacket | None:
        try:
            return opus.read_packet(payload)
        except opus.NotOpus:
            return None

    def silence(self, piece: Samples | OpusPacket) -> OpusPacket:
        return opus.silence(len(piece))

    def voice(self) -> Voice:
        return OpusVoice()


LAWS = {law.payload_type: G711(law) for law in (PCMU, PCMA)}
OFFERED: tuple[Codec, ...] = (Opus(111), *LAWS.values())
"""Where a peer leaves that to us."""


def choose(audio: MediaDescription, *, spoken: str | None = None) -> Codec | None:
    """Return the codec to take of those offered; `spoken` is the name of the one taken before in this call."""
    for offered in audio.codecs:
        if spoken in (None, OPUS) and _is_opus_for_us(offered, audio):
            return Opus(offered.payload_type)
    laws = (LAWS.get(offered.payload_type) for offered in audio.codecs)
    return next((law for law in laws if law is not None and spoken in (None, law.name)), None)


def _is_opus_for_us(offered: Offered, audio: MediaDescription) -> bool:
    """Return whether this is Opus that may be as engines write it: their packets are not coded anew.

    All else that RFC 7587 has the other side ask for (mono, a constant rate, no silence) are wishes, of which we meet
    what is met; it has to understand what is sent nevertheless.
    """
    if (offered.encoding_name.lower(), offered.clock_rate, offered.channels) != (OPUS, opus.CLOCK_HZ, 2):
        return False
    if not 96 <= offered.payload_type <= 127:
        return False
    wishes = dict(pair.strip().lower().partition("=")[::2] for pair in (offered.fmtp or "").split(";"))
    bits, longest = wishes.get("maxaveragebitrate", ""), (audio.attributes.get("maxptime") or [""])[0]
    return not (bits.isdecimal() and int(bits[:9]) < OUR_BITS_PER_SECOND) and not (
        longest.isdecimal() and int(longest[:9]) < OUR_FRAME_MS
    )
