"""Opus packets as they are: read, cut, joined into and taken out of Ogg pages. Nothing here decodes their sound.

Sources: RFC 6716, section 3 (the inside of a packet), RFC 7845 (Opus in Ogg; 4.1: what stands for a packet that was
lost), RFC 3533 (pages).
"""

from __future__ import annotations

import dataclasses
import secrets
import struct
import zlib

from voice.telephony.g711 import FRAME_SAMPLES

CLOCK_HZ = 48_000
"""Of RTP and of Ogg, whatever the packets hold (RFC 7587)."""
TICKS = 6
"""Of that clock, to a sample at 8 kHz."""
LONGEST_SAMPLES = 960
LONGEST_FRAME_BYTES = 1275
# Samples at 8 kHz of a frame, by the first five bits of a packet: SILK, both together, CELT.
_FRAME_SAMPLES = (80, 160, 320, 480) * 3 + (80, 160) * 2 + (20, 40, 80, 160) * 4
_SILENT_CONFIGS = {20: 28, 40: 29, 80: 30, 160: 31}
_SILENT_FRAME = b"\xff\xfe"


class NotOpus(ValueError):
    """The bytes are not of the form. The sentence is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class OpusPacket:
    """A packet, and how long it sounds, in samples at 8 kHz: that is its length here, whatever its bytes are."""

    data: bytes
    samples: int

    def __len__(self) -> int:
        return self.samples


def read_packet(data: bytes) -> OpusPacket:
    """Read a packet. Whatever is in its frames, a decoder makes some sound of it: only their borders can be wrong.

    Raises:
        NotOpus
    """
    frames = _frames_of(data)
    return OpusPacket(data, len(frames) * _FRAME_SAMPLES[data[0] >> 3])


def cut(packet: OpusPacket) -> list[OpusPacket]:
    """Cut a packet into those of 20 ms, as far as its frames allow that."""
    if packet.samples <= FRAME_SAMPLES:
        return [packet]
    frames, samples = _frames_of(packet.data), _FRAME_SAMPLES[packet.data[0] >> 3]
    each = max(1, FRAME_SAMPLES // samples)
    groups = (frames[at : at + each] for at in range(0, len(frames), each))
    return [OpusPacket(_join(packet.data[0], group), samples * len(group)) for group in groups]


def lost(like: OpusPacket, missing: int = FRAME_SAMPLES) -> OpusPacket:
    """Return a packet without any content, which makes a decoder go on with what it heard, and fade.

    It lasts about as long as what is missing, and 20 ms at most, or a frame.
    """
    samples = _FRAME_SAMPLES[like.data[0] >> 3]
    count = max(1, min(missing, FRAME_SAMPLES) // samples)
    return OpusPacket(bytes([like.data[0] | 3, count]), count * samples)


def silence(samples: int = FRAME_SAMPLES) -> OpusPacket:
    """Return a packet in which nothing is heard, as long as one that was read, or 20 ms."""
    frame = next(each for each in (160, 80, 40, 20) if samples % each == 0)
    count = samples // frame
    return OpusPacket(_join(_SILENT_CONFIGS[frame] << 3, [_SILENT_FRAME] * count), samples)


def _frames_of(data: bytes) -> list[bytes]:
    if not data:
        raise NotOpus("an Opus packet is empty")
    toc, body = data[0], data[1:]
    match toc & 3:
        case 0:
            frames = [body]
        case 1:
            frames = _in_equal_parts(body, 2)
        case 2:
            first, at = _read_length(body, 0)
            if at + first > len(body):
                raise NotOpus("a frame of an Opus packet is cut off")
            frames = [body[at : at + first], body[at + first :]]
        case _:
            frames = _counted(body)
    if max(map(len, frames)) > LONGEST_FRAME_BYTES or len(frames) * _FRAME_SAMPLES[toc >> 3] > LONGEST_SAMPLES:
        raise NotOpus("an Opus packet is too long")
    return frames


def _counted(body: bytes) -> list[bytes]:
    """Return the frames of a packet that tells how many there are, perhaps how long, and what is filled up."""
    if not body or not body[0] & 0x3F:
        raise NotOpus("an Opus packet has no frames")
    count, at, end = body[0] & 0x3F, 1, len(body)
    if body[0] & 0x40:
        more = 255
        while more == 255:
            if at >= end:
                raise NotOpus("the padding of an Opus packet is cut off")
            more, at = body[at], at + 1
            end -= 254 if more == 255 else more
    if end < at:
        raise NotOpus("an Opus packet is nothing but padding")
    if not body[0] & 0x80:
        return _in_equal_parts(body[at:end], count)
    lengths = []
    for _ in range(count - 1):
        length, at = _read_length(body, at)
        lengths.append(length)
    if at + sum(lengths) > end:
        raise NotOpus("a frame of an Opus packet is cut off")
    frames = []
    for length in lengths:
        frames.append(body[at : at + length])
        at += length
    return [*frames, body[at:end]]


def _in_equal_parts(body: bytes, count: int) -> list[bytes]:
    if len(body) % count:
        raise NotOpus("the frames of an Opus packet are not equally long")
    size = len(body) // count
    return [body[at * size : (at + 1) * size] for at in range(count)]


def _read_length(body: bytes, at: int) -> tuple[int, int]:
    """Return a frame's length, and where what follows it begins."""
    if at >= len(body) or (body[at] >= 252 and at + 1 >= len(body)):
        raise NotOpus("the length of a frame in an Opus packet is cut off")
    return (body[at], at + 1) if body[at] < 252 else (4 * body[at + 1] + body[at], at + 2)


def _write_length(length: int) -> bytes:
    return bytes([length]) if length < 252 else bytes([252 + (length & 3), length - 252 - (length & 3) >> 2])


def _join(toc: int, frames: list[bytes]) -> bytes:
    """Return a packet of these frames, whose first byte begins like `toc`."""
    if len(frames) == 1:
        return bytes([toc & 0xFC]) + frames[0]
    lengths = b"".join(_write_length(len(frame)) for frame in frames[:-1])
    return bytes([toc | 3, 0x80 | len(frames)]) + lengths + b"".join(frames)


# --- Ogg -----------------------------------------------------------------------------------------------------------
_PAGE = struct.Struct("<4sBBQLLLB")
_CHECKSUM_AT = 22
_BEGINS = 2
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _checksum(page: bytes) -> int:
    """Return Ogg's CRC: zlib's, with the bits of everything the other way round, and without its inversions."""
    mirrored = ~zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")


class OggWriter:
    """Packets to one Ogg Opus stream, each on a page of its own."""

    def __init__(self) -> None:
        self._serial = secrets.randbits(32)
        self._pages = 0
        self._ticks = 0

    def write(self, packet: OpusPacket) -> bytes:
        """Return the page of a packet. The first one has the stream's headers before it."""
        headers = b""
        if not self._pages:
            head = struct.pack("<8sBBHLhB", b"OpusHead", 1, 1, 0, CLOCK_HZ, 0, 0)
            tags = struct.pack("<8sL8sL", b"OpusTags", 8, b"Warmline", 0)
            headers = self._page(head, kind=_BEGINS) + self._page(tags)
        self._ticks += packet.samples * TICKS
        return headers + self._page(packet.data)

    def _page(self, data: bytes, kind: int = 0) -> bytes:
        table = b"\xff" * (len(data) // 255) + bytes([len(data) % 255])
        head = _PAGE.pack(b"OggS", 0, kind, self._ticks, self._serial, self._pages, 0, len(table))
        self._pages += 1
        page = head + table + data
        return page[:_CHECKSUM_AT] + struct.pack("<L", _checksum(page)) + page[_CHECKSUM_AT + 4 :]


class OggReader:
    """One Ogg Opus stream after another, cut anywhere, to packets. It comes over a connection that loses nothing."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = b""
        """Of a packet that goes on on the next page."""

    def read(self, data: bytes) -> list[OpusPacket]:
        """Return the packets that are whole now.

        Raises:
            NotOpus
        """
        stream, at = self._rest + data, 0
        packets: list[OpusPacket] = []
        while (end := self._end_of_page(stream, at)) is not None:
            table_at = at + _PAGE.size
            body_at = table_at + stream[at + 26]
            if stream[at + 5] & _BEGINS:
                self._begun = b""
            for size in stream[table_at:body_at]:
                self._begun += stream[body_at : body_at + size]
                body_at += size
                if size < 255:
                    if not self._begun.startswith((b"OpusHead", b"OpusTags")):
                        packets.append(read_packet(self._begun))
                    self._begun = b""
            at = end
        self._rest = stream[at:]
        return packets

    @staticmethod
    def _end_of_page(stream: bytes, at: int) -> int | None:
        """Return where the page that begins here ends; None where it is not whole."""
        if stream[at : at + 5] != b"OggS\0"[: len(stream) - at]:
            raise NotOpus("a page of Ogg does not begin where it should")
        table_at = at + _PAGE.size
        if len(stream) < table_at or len(stream) < table_at + stream[at + 26]:
            return None
        end = table_at + stream[at + 26] + sum(stream[table_at : table_at + stream[at + 26]])
        return end if len(stream) >= end else None
