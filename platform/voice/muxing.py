"""One playable file of what was recorded of a call: the caller on the left, the agent on the right, on one timeline.

Each direction is decoded message by message, and laid down at the gateway's time: the agent's when it was sent, as the
caller's speaker plays it; the caller's when it was said, which is before it came where the network held it up. It knows
nothing of storage, keys or the database.
"""

from __future__ import annotations

import collections
import dataclasses
import io
from collections.abc import Iterable, Sequence

import numpy as np
import soundfile
import sphn
from numpy.typing import NDArray

from content.recordings import AGENT, CALLER, Entry
from gpu_workers.protocol import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]

DECODED_AT_ONCE_BYTES = 4096
"""The reader of Ogg Opus fails on much more in one piece."""
SEAM_SECONDS = 0.06
"""Less than this between two messages is the network's doing: they are one sound."""
CATCHES_UP_SECONDS = 3.0
"""For how long a network may hold a caller's sound up and then deliver it all at once."""
STRETCH_SAMPLES = 20 * SAMPLE_RATE_HZ
AHEAD_SECONDS = 30.0
"""How much more sound than time there may be in one direction; what comes beyond is not believed."""

_BEGINS_A_STREAM = 0x02
_HEADER_TYPE = 5
_DAMAGED = "Some of the sound could not be decoded."


class NothingRecorded(Exception):
    """There is no sound in it. The sentence may be shown."""


@dataclasses.dataclass(frozen=True, slots=True)
class Muxed:
    """`ogg_opus`: stereo; `begins_at_ms`: since the call began; `problem`: what is missing, if anything is."""

    ogg_opus: bytes
    duration_ms: int
    begins_at_ms: int
    problem: str


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """The sound of one message, and when it passed. Seconds since the call began."""

    at: float
    sound: NDArray[np.int16]

    @property
    def seconds(self) -> float:
        return len(self.sound) / SAMPLE_RATE_HZ


class Ear:
    """Decodes one direction. A stream that begins anew, after a fail-over or when a caller is back, is a segment."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.segments = 0
        self.is_damaged = False
        self._reader: sphn.OpusStreamReader | None = None
        self._began: float | None = None
        self._heard_seconds = 0.0

    def hear(self, at: float, payload: bytes) -> None:
        if payload[:4] == b"OggS" and len(payload) > _HEADER_TYPE and payload[_HEADER_TYPE] & _BEGINS_A_STREAM:
            self._reader = sphn.OpusStreamReader(SAMPLE_RATE_HZ)
            self.segments += 1
        if self._reader is None:
            self.is_damaged = True  # of a stream whose beginning is lost
            return
        try:
            sound = _decoded(self._reader, payload)
        except Exception:  # the library's own, of no common kind
            self._reader, self.is_damaged = None, True
            return
        if not len(sound):
            return
        self._began = at if self._began is None else self._began
        if self._heard_seconds > at - self._began + AHEAD_SECONDS:
            self.is_damaged = True
            return
        self._heard_seconds += len(sound) / SAMPLE_RATE_HZ
        self.pieces.append(Piece(at, sound))


def mux(entries: Iterable[Entry]) -> Muxed:
    """Return the file of a call's entries, which come in order.

    Raises:
        NothingRecorded
    """
    ears = {CALLER: Ear(), AGENT: Ear()}
    for entry in entries:
        ears[entry.direction].hear(entry.at_ms / 1000, entry.payload)
    begins = {CALLER: when_said(ears[CALLER].pieces), AGENT: when_played(ears[AGENT].pieces)}
    laid = [
        (direction, begin, piece)
        for direction, ear in ears.items()
        for begin, piece in zip(begins[direction], ear.pieces, strict=True)
    ]
    if not laid:
        raise NothingRecorded("Nothing was heard in this call.")
    laid.sort(key=lambda each: each[1])
    first = max(0.0, laid[0][1])
    last = max(begin + piece.seconds for _, begin, piece in laid)
    return Muxed(
        ogg_opus=_encoded((direction, begin - first, piece) for direction, begin, piece in laid),
        duration_ms=round((last - first) * 1000),
        begins_at_ms=round(first * 1000),
        problem=_DAMAGED if any(ear.is_damaged for ear in ears.values()) else "",
    )


def when_played(pieces: Sequence[Piece]) -> list[float]:
    """Return when each piece begins to be heard: when it came, or after what came before it and still plays."""
    begins, ends_at = [], 0.0
    for piece in pieces:
        begin = ends_at if piece.at < ends_at + SEAM_SECONDS else piece.at
        begins.append(begin)
        ends_at = begin + piece.seconds
    return begins


def when_said(pieces: Sequence[Piece]) -> list[float]:
    """Return when each piece began to be said.

    A microphone's sound is even and only its journey is not, so the shortest journey near a piece says when it set
    out: of all pieces in the seconds after it, the one that came earliest for its place in the stream.
    """
    ends = np.cumsum([piece.seconds for piece in pieces])
    set_outs = [piece.at - end for piece, end in zip(pieces, ends, strict=True)]
    begins: list[float] = []
    ends_at = 0.0
    ahead: collections.deque[int] = collections.deque()  # indices whose set-outs grow, all of the seconds after a piece
    following = 0
    for index, piece in enumerate(pieces):
        while following < len(pieces) and pieces[following].at <= piece.at + CATCHES_UP_SECONDS:
            while ahead and set_outs[ahead[-1]] >= set_outs[following]:
                ahead.pop()
            ahead.append(following)
            following += 1
        while ahead[0] < index:
            ahead.popleft()
        begin = set_outs[ahead[0]] + float(ends[index]) - piece.seconds
        begin = ends_at if begin < ends_at + SEAM_SECONDS else begin
        begins.append(begin)
        ends_at = begin + piece.seconds
    return begins


def _decoded(reader: sphn.OpusStreamReader, payload: bytes) -> NDArray[np.int16]:
    parts = [
        reader.append_bytes(payload[at : at + DECODED_AT_ONCE_BYTES])
        for at in range(0, len(payload), DECODED_AT_ONCE_BYTES)
    ]
    if not parts:
        return np.zeros(0, np.int16)
    return (np.clip(np.concatenate(parts), -1, 1) * 32767).astype(np.int16)


def _encoded(laid: Iterable[tuple[int, float, Piece]]) -> bytes:
    """Return stereo of pieces in the order of their beginnings, encoded a stretch at a time."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, 2, format="OGG", subtype="OPUS") as encoder:
        stretch: Samples = np.zeros((2 * STRETCH_SAMPLES, 2), np.float32)
        begins, filled = 0, 0  # sample at which the stretch begins, and up to where of it there is sound
        for direction, begin, piece in laid:
            at = max(0, round(begin * SAMPLE_RATE_HZ) - begins)
            while at >= STRETCH_SAMPLES:  # nothing comes before it any more
                encoder.write(stretch[:STRETCH_SAMPLES])
                stretch = np.concatenate([stretch[STRETCH_SAMPLES:], np.zeros((STRETCH_SAMPLES, 2), np.float32)])
                begins, at, filled = begins + STRETCH_SAMPLES, at - STRETCH_SAMPLES, max(0, filled - STRETCH_SAMPLES)
            filled = max(filled, at + len(piece.sound))
            if filled > len(stretch):
                stretch = np.concatenate([stretch, np.zeros((filled, 2), np.float32)])
            stretch[at : at + len(piece.sound), direction] = piece.sound.astype(np.float32) / 32768
        encoder.write(stretch[:filled])
    return file.getvalue()
