"""What a network's pieces of sound are made of: how they become frames, and what stands for those that are lost.

G.711 is decoded, cut to frames of 20 ms, and made up by voice.telephony.concealment. Packets of Opus stay as they are:
one without content has the engine's decoder make up what is missing, which knows the voice better than we do.
"""

from __future__ import annotations

import collections
import itertools
from typing import Protocol, TypeVar

import numpy as np

from voice.telephony import opus
from voice.telephony.concealment import Concealment
from voice.telephony.g711 import FRAME_SAMPLES, Samples, is_quiet
from voice.telephony.listening import CONVERGES_AFTER, is_quiet_after
from voice.telephony.opus import OpusPacket

Piece = TypeVar("Piece", Samples, OpusPacket)


class Pieces(Protocol[Piece]):
    """One way of sound. A piece's length is told in samples at 8 kHz."""

    silence: Piece
    """A frame in which nothing is heard."""

    def after(self, piece: Piece, passed: int) -> Piece:
        """Return what of a piece is left when so much of it has passed on otherwise."""

    def take(self, pieces: list[Piece]) -> list[Piece]:
        """Return the frames that are whole with these pieces, which follow what came before."""

    def make_up(self, missing: int) -> list[Piece]:
        """Return frames in the place of so many samples, and forget what waits to become a frame."""

    def pause(self, frames: int) -> list[Piece]:
        """Return so many frames of silence, and forget what waits to become a frame."""

    def is_quiet(self, frame: Piece) -> bool:
        """Return whether a frame that has just come of `take` can go or be doubled unheard."""


class PcmPieces:
    """Samples, in pieces of any length."""

    silence = np.zeros(FRAME_SAMPLES, np.float32)

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._concealment = Concealment()

    def after(self, piece: Samples, passed: int) -> Samples:
        return piece[passed:]

    def take(self, pieces: list[Samples]) -> list[Samples]:
        line = np.concatenate([self._rest, *pieces])
        whole = len(line) - len(line) % FRAME_SAMPLES
        self._rest = line[whole:]
        return [self._concealment.hear(line[at : at + FRAME_SAMPLES]) for at in range(0, whole, FRAME_SAMPLES)]

    def make_up(self, missing: int) -> list[Samples]:
        count = -(-(missing - len(self._rest)) // FRAME_SAMPLES)
        self._rest = self._rest[:0]
        return [self._concealment.make_up() for _ in range(count)]

    def pause(self, frames: int) -> list[Samples]:
        self._rest = self._rest[:0]
        return [self.silence] * frames

    def is_quiet(self, frame: Samples) -> bool:
        return is_quiet(frame)


class OpusPieces:
    """Packets, which are frames as they are."""

    silence = opus.silence()

    def __init__(self) -> None:
        self._passed: collections.deque[OpusPacket] = collections.deque(maxlen=CONVERGES_AFTER)

    def after(self, piece: OpusPacket, passed: int) -> OpusPacket:
        return piece

    def take(self, pieces: list[OpusPacket]) -> list[OpusPacket]:
        self._passed.extend(pieces)
        return pieces

    def make_up(self, missing: int) -> list[OpusPacket]:
        frames = []
        while missing > 0 and self._passed:
            frames.append(opus.lost(self._passed[-1], missing))
            missing -= len(frames[-1])
        return frames

    def pause(self, frames: int) -> list[OpusPacket]:
        return [self.silence] * frames

    def is_quiet(self, frame: OpusPacket) -> bool:
        before = itertools.takewhile(lambda packet: packet is not frame, self._passed)
        return frame is self.silence or is_quiet_after(before, frame)
