"""Between a telephone's sound and what engines take: 8 kHz samples on one side, Ogg Opus on the other.

One direction adds 8 ms: 1 for its filter, 6.5 for Opus to look ahead, and what the work takes. soxr's quick mode would
fold what lies above 4 kHz into speech, and its better ones hold back 12 to 40 ms: hence filters of our own.
Where the line carries Opus too, nothing is coded anew: packets move between RTP and Ogg as they are.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import sphn

from gpu_workers.protocol import SAMPLE_RATE_HZ
from voice.telephony import opus
from voice.telephony.arrivals import Arrivals
from voice.telephony.g711 import FRAME_SAMPLES, RATE_HZ, Samples, is_quiet
from voice.telephony.legs import OPUS
from voice.telephony.listening import CONVERGES_AFTER, is_quiet_after
from voice.telephony.opus import OggReader, OggWriter, OpusPacket
from voice.telephony.pieces import OpusPieces, PcmPieces

OPUS_RATE_HZ = 48_000
"""The writer makes a packet of 960 samples: at this rate they are 20 ms, at 24 kHz they would be 40."""
UP, DOWN = OPUS_RATE_HZ // RATE_HZ, SAMPLE_RATE_HZ // RATE_HZ
CUT_OFF_HZ = 3_700
"""Telephones carry up to 3,400 Hz; at 4,000 images and aliases begin."""
HALF_TAPS = 8
"""Of the filters, in samples at 8 kHz: each looks one millisecond ahead."""
DECODED_AT_ONCE_BYTES = 4096
"""The reader of Ogg Opus fails on much more in one piece."""


def _low_pass(factor: int) -> npt.NDArray[np.float32]:
    """Return a windowed sinc for a rate of `factor` × 8 kHz, of unit gain."""
    at = np.arange(-HALF_TAPS * factor, HALF_TAPS * factor) + 0.5
    taps = np.sinc(2 * CUT_OFF_HZ / (factor * RATE_HZ) * at) * np.kaiser(len(at), 5.0)
    return (taps / taps.sum()).astype(np.float32)


class ToEngine:
    """A caller's samples at 8 kHz to one Ogg Opus stream."""

    def __init__(self) -> None:
        self._writer = sphn.OpusStreamWriter(OPUS_RATE_HZ)
        self._before = np.zeros(2 * HALF_TAPS - 1, np.float32)
        # Each of the six samples that become of one sees every sixth tap.
        self._phases = _low_pass(UP).reshape(-1, UP)[::-1] * UP

    def encode(self, frame: Samples) -> bytes:
        """Return the page of one frame of 20 ms. The first one has the stream's headers before it."""
        line = np.concatenate((self._before, frame))
        self._before = line[-len(self._before) :]
        windows = np.lib.stride_tricks.sliding_window_view(line, 2 * HALF_TAPS)
        return bytes(self._writer.append_pcm((windows @ self._phases).ravel()))


class FromEngine:
    """An engine's Ogg Opus stream to frames of 20 ms at 8 kHz."""

    def __init__(self) -> None:
        self._reader = sphn.OpusStreamReader(SAMPLE_RATE_HZ)
        self._taps = _low_pass(DOWN)
        self._before = np.zeros(len(self._taps) - DOWN, np.float32)
        self._rest = np.zeros(0, np.float32)

    def decode(self, ogg_opus: bytes) -> list[Samples]:
        """Return the frames that are whole now.

        Raises:
            ValueError: this is no Ogg Opus.
        """
        parts = [self._rest]
        for at in range(0, len(ogg_opus), DECODED_AT_ONCE_BYTES):
            try:
                sound = self._reader.append_bytes(ogg_opus[at : at + DECODED_AT_ONCE_BYTES])
            except Exception as problem:
                raise ValueError(f"The agent's sound was not Ogg Opus: {problem}") from problem
            if len(sound):
                parts.append(self._to_8_khz(np.asarray(sound, np.float32)))
        samples = np.concatenate(parts)
        whole = len(samples) - len(samples) % FRAME_SAMPLES
        self._rest = samples[whole:]
        return [samples[at : at + FRAME_SAMPLES] for at in range(0, whole, FRAME_SAMPLES)]

    def _to_8_khz(self, sound: Samples) -> Samples:
        """Filter and keep every third sample; what does not make one yet waits with the filter's past."""
        line = np.concatenate((self._before, sound))
        windows = np.lib.stride_tricks.sliding_window_view(line, len(self._taps))[::DOWN]
        self._before = line[len(windows) * DOWN :]
        return windows @ self._taps


class PacketsFromEngine:
    """An engine's Ogg Opus stream to packets of 20 ms, as far as they can be cut: engines write 40 ms in each."""

    def __init__(self) -> None:
        self._reader = OggReader()

    def decode(self, ogg_opus: bytes) -> list[OpusPacket]:
        """Return the packets that are whole now.

        Raises:
            ValueError: this is no Ogg Opus.
        """
        try:
            return [part for packet in self._reader.read(ogg_opus) for part in opus.cut(packet)]
        except opus.NotOpus as problem:
            raise ValueError(f"The agent's sound was not Ogg Opus: {problem}") from problem


class OpusVoice:
    """What is heard on a line of Opus: the agent's packets as they are, and sounds of ours, which are coded here."""

    silence = opus.silence().data

    def __init__(self) -> None:
        self._coder: ToEngine | None = None
        self._pages = OggReader()
        self._said: collections.deque[OpusPacket] = collections.deque(maxlen=CONVERGES_AFTER)

    def encode(self, frame: Samples | OpusPacket) -> bytes:
        if isinstance(frame, OpusPacket):
            self._coder = None  # a coder holds memory, and sounds of ours are few
            packet = frame
        else:
            self._coder = self._coder or ToEngine()
            (packet,) = self._pages.read(self._coder.encode(frame))
        self._said.append(packet)
        return packet.data

    def is_quiet(self, frame: Samples | OpusPacket) -> bool:
        return is_quiet_after(self._said, frame) if isinstance(frame, OpusPacket) else is_quiet(frame)


def both_ways(codec: str) -> tuple[Arrivals[Any], Callable[[Any], bytes], Callable[[bytes], list[Any]]]:
    """Return for a line of this codec: its arrivals, what makes the engine's sound of a frame, and frames of that."""
    if codec == OPUS:
        return Arrivals(OpusPieces()), OggWriter().write, PacketsFromEngine().decode
    return Arrivals(PcmPieces()), ToEngine().encode, FromEngine().decode
