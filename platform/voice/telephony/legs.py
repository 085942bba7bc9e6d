"""A telephone call as its carrier holds it: what the bridge asks of a Twilio stream, another's, or a SIP dialog.

A leg knows its carrier's messages; the bridge knows the gateway. Sound between them is samples at 8 kHz, or packets of
Opus where the line carries those.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import AsyncIterator

from voice.telephony.g711 import Samples
from voice.telephony.opus import OpusPacket

OPUS = "opus"
"""The codec of a leg whose pieces are packets."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sound:
    """A piece of what the caller says, of any length, as it came: perhaps late, twice or after its successor."""

    sequence: int
    """Its number among the pieces, unwrapped."""
    position: int
    """Of its first sample on the carrier's clock of 8 kHz, unwrapped."""
    piece: Samples | OpusPacket | None
    """None where the number carried no sound: RTP numbers pressed keys among it."""
    at: float
    """When it came, on the clock of `time.monotonic`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """The caller pressed a key: one of gpu_workers.protocol.KEYPAD."""

    digit: str


Event = Sound | Key


@dataclasses.dataclass(frozen=True, slots=True)
class LineReport:
    """What the other side says of how our sound reaches it."""

    packets_lost: int
    jitter_ms: float
    round_trip_ms: float | None
    """On average; None where it answered none of our reports."""


class TransferRefused(Exception):
    """The carrier does not put the call through. The sentence says why."""


class Leg(abc.ABC):
    """One answered call. Iterate over it for what comes from the telephone; it ends when the other side hung up.

    None of the methods raises because the other side is gone: the iteration tells that.
    """

    codec: str
    """As RTP names it, of the sound on the wire."""

    @property
    def report(self) -> LineReport | None:
        """None where the carrier does not tell."""
        return None

    @abc.abstractmethod
    def __aiter__(self) -> AsyncIterator[Event]: ...

    @abc.abstractmethod
    async def play(self, frame: Samples | OpusPacket) -> None:
        """Have a frame heard after what was played before. The bridge gets them hardly faster than they are heard.

        Samples are 20 ms. Packets come only where `codec` is Opus, and may last longer.
        """

    @abc.abstractmethod
    async def clear(self) -> None:
        """Forget what was played and not heard: the caller interrupts."""

    @abc.abstractmethod
    async def wait_until_played(self) -> None:
        """Wait until all was heard; the bridge sets the limit of time."""

    @abc.abstractmethod
    async def hang_up(self) -> None:
        """End it from our side."""

    @abc.abstractmethod
    async def transfer(self, number: str) -> None:
        """Put the other side through to a telephone number (E.164) or a SIP address; the leg ends with that.

        Raises:
            TransferRefused
        """
