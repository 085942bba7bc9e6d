"""What packets of Opus sound like, at 8 kHz: asked where only that tells something."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sphn

from voice.telephony.g711 import RATE_HZ, Samples, is_quiet
from voice.telephony.opus import OggWriter, OpusPacket

CONVERGES_AFTER = 6
"""Packets, until what is heard does not depend on those before any more: 80 ms by RFC 7845, section 4.6."""


class OpusEar:
    """Decodes the packets of one stream, in order."""

    def __init__(self) -> None:
        self._writer = OggWriter()
        self._reader = sphn.OpusStreamReader(RATE_HZ)

    def hear(self, packet: OpusPacket) -> Samples:
        return np.asarray(self._reader.append_bytes(self._writer.write(packet)), np.float32)


def is_quiet_after(before: Iterable[OpusPacket], packet: OpusPacket) -> bool:
    """Return whether nothing is heard in a packet that follows others. Seldom asked: else all would be decoded."""
    ear = OpusEar()
    for each in before:
        ear.hear(each)
    return is_quiet(ear.hear(packet))
