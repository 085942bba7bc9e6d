"""The sound of one call over RTP (RFC 3550), and its keys (RFC 4733): a socket, and the packets on it.

Order, losses and clocks are voice.telephony.arrivals', the pace is voice.telephony.pacing's, and what both sides tell
of the line is voice.telephony.sip.rtcp's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from voice.telephony.arrivals import unwrap
from voice.telephony.g711 import FRAME_SAMPLES, Samples
from voice.telephony.legs import Event, Key, Sound
from voice.telephony.listening import OpusEar
from voice.telephony.opus import OpusPacket
from voice.telephony.sip.codecs import Codec
from voice.telephony.sip.keys import DIGITS, Keypad, Way
from voice.telephony.sip.rtcp import Rtcp, is_rtcp
from voice.telephony.sip.srtp import Encryption
from voice.telephony.tones import Tones

HEADER = struct.Struct("!BBHLL")
VERSION = 2 << 6
MARKER = 0x80
LONGEST_PACKET_BYTES = 1_500
NOWHERE = "0.0.0.0"  # noqa: S104  (an old way to hold a call)


class NoPortLeft(Exception):
    """All ports of SIP_RTP_PORTS are taken."""


class RtpLine(asyncio.DatagramProtocol):
    """Both directions of one call's sound."""

    def __init__(self, *, codec: Codec, keys_type: int | None, hear: Callable[[Event], None]) -> None:
        self.port = 0
        self.is_muted = False
        """Whether nothing is sent: our time passes all the same."""
        self.is_deaf = False
        """Whether what comes is taken for silence."""
        self.heard_at = time.monotonic()
        self.codec = codec
        self.keys_type = keys_type
        self.encryption = Encryption()
        """Of the sound."""
        self._hear = hear
        self._keypad = Keypad()
        self._tones: Tones | None = None
        self._ear: OpusEar | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._control: asyncio.DatagramTransport | None = None
        self._to: tuple[str, int] | None = None
        self._control_to: tuple[str, int] | None = None
        self._shares_port = False
        self._hosts: set[str] = set()
        self._control_hosts: set[str] = set()
        self._source = self._key_at = -1
        self._sequence = self._position = -1
        """Of the last packet, as the bridge counts them; -1 before the first."""
        self._shift_sequence = self._shift_position = 0
        self._sent = secrets.randbelow(1 << 15)
        self._time = secrets.randbits(31)
        self._ssrc = secrets.randbits(32)
        self._sent_time, self._sent_at = self._time, time.monotonic()
        """On our sound's clock, and on ours: when the last frame began, heard or not."""
        self._begins = True
        self.rtcp = Rtcp(self._ssrc)

    async def open(self, host: str, ports: Iterable[int]) -> None:
        """Take the first port that is free, as is the next one, for RTCP.

        Raises:
            NoPortLeft
        """
        loop = asyncio.get_running_loop()
        for port in ports:
            with contextlib.suppress(OSError):
                self._control, _ = await loop.create_datagram_endpoint(
                    lambda: _Control(self), local_addr=(host, port + 1)
                )
                try:
                    await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
                except OSError:
                    self._control.close()
                    raise
                self.port = port
                return
        raise NoPortLeft

    def connect(self, address: tuple[str, int], *others: str, control: tuple[str, int] | None = None) -> None:
        """Say where the other side wants its sound, and from which other hosts its own may come: through a NAT.

        Args:
            control: where it wants RTCP; None: where its sound goes (RFC 5761).
        """
        self._to, self._control_to, self._shares_port = address, control, control is None
        self._hosts = {address[0], *others}
        self._control_hosts = {control[0]} if control else set()

    def close(self) -> None:
        self._tell(goodbye=True)
        for transport in (self._transport, self._control):
            if transport is not None:
                transport.close()

    async def tell(self) -> None:
        """Tell the other side now and then how the line is, for ever."""
        first = True
        while True:
            await asyncio.sleep(self.rtcp.next_seconds(first=first))
            self._tell()
            first = False

    def _tell(self, *, goodbye: bool = False) -> None:
        to, transport = (self._to, self._transport) if self._shares_port else (self._control_to, self._control)
        if to is None or to[0] == NOWHERE or transport is None or transport.is_closing():
            return
        at = time.monotonic()
        now = self._sent_time + int((at - self._sent_at) * self.codec.clock_hz) & 0xFFFFFFFF
        transport.sendto(self.encryption.protect_control(self.rtcp.write(now, at, goodbye=goodbye)), to)

    def hear_control(self, data: bytes, address: Any) -> None:
        """Take in RTCP, on whichever port it came."""
        if address[0] in self._hosts | self._control_hosts and is_rtcp(data) and len(data) <= LONGEST_PACKET_BYTES:
            if (plain := self.encryption.unprotect_control(data)) is None:
                return
            if not self._shares_port:
                self._control_to = address[:2]
            self.rtcp.read(plain, time.monotonic(), clock_hz=self.codec.clock_hz)

    # --- in --------------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self._shares_port and is_rtcp(data):
            self.hear_control(data, address)
            return
        if address[0] not in self._hosts or len(data) > LONGEST_PACKET_BYTES:
            return
        plain = self.encryption.unprotect(data)
        if plain is None or (packet := _read(plain)) is None:
            return
        payload_type, sequence, timestamp, source, payload = packet
        if payload_type not in (self.codec.payload_type, self.keys_type) and not payload_type == 13:
            return
        self._to = address[:2]  # behind a NAT its own description does not lead to it
        self.heard_at = time.monotonic()
        if source != self._source:
            self._begin(source, sequence, timestamp)
        self._sequence = unwrap(sequence + self._shift_sequence, after=self._sequence, bits=16)
        position = unwrap(timestamp + self._shift_position, after=self._position, bits=32)
        is_sound = payload_type == self.codec.payload_type
        self.rtcp.heard(source, sequence, timestamp if is_sound else None, self.heard_at, clock_hz=self.codec.clock_hz)
        piece = self.codec.decode(payload) if is_sound else None
        if piece is not None:
            self._position = position
            piece = self.codec.silence(piece) if self.is_deaf else piece
        self._hear(Sound(self._sequence, position // self.codec.ticks, piece, self.heard_at))
        if payload_type == self.keys_type:
            self._hear_key(payload, timestamp)
        elif self.keys_type is None and piece is not None:
            self._hear_tones(position // self.codec.ticks, piece)

    def _begin(self, source: int, sequence: int, timestamp: int) -> None:
        """Go on counting where another source takes over: after a hold, or put through by its PBX."""
        self._source = source
        self._shift_sequence = self._sequence + 1 - sequence
        follows = self._position + FRAME_SAMPLES * self.codec.ticks if self._position >= 0 else 0
        self._shift_position = follows - timestamp
        self._key_at = -1

    def _hear_key(self, payload: bytes, timestamp: int) -> None:
        """Take a key when its first packet comes: all of its packets have the time of its beginning."""
        if len(payload) >= 4 and timestamp != self._key_at and payload[0] < len(DIGITS):
            self._key_at = timestamp
            self.press(DIGITS[payload[0]], Way.EVENT)

    def _hear_tones(self, position: int, piece: Samples | OpusPacket) -> None:
        """Listen for keys where the other side has no other way to send them among the sound."""
        self._tones = self._tones or Tones()
        if isinstance(piece, OpusPacket):
            self._ear = self._ear or OpusEar()
            piece = self._ear.hear(piece)
        for digit in self._tones.hear(position, piece):
            self.press(digit, Way.TONE)

    def press(self, digit: str, way: Way) -> None:
        """Take a key, which may have come by another way already. Nobody presses one for us while the line is held."""
        if not self.is_deaf and self._keypad.takes(digit, way, time.monotonic()):
            self._hear(Key(digit))

    # --- out -------------------------------------------------------------------------------------------------------
    def send(self, payload: bytes, samples: int = FRAME_SAMPLES) -> None:
        """Send a frame of so many samples at 8 kHz."""
        self._sent_time, self._sent_at = self._time, time.monotonic()
        self._time = (self._time + samples * self.codec.ticks) & 0xFFFFFFFF
        if self.is_muted or self._to is None or self._transport is None or self._transport.is_closing():
            self._begins = True
            return
        self._sent = (self._sent + 1) & 0xFFFF
        mark = MARKER if self._begins else 0
        self._begins = False
        self.rtcp.sent(len(payload))
        header = HEADER.pack(VERSION, self.codec.payload_type | mark, self._sent, self._sent_time, self._ssrc)
        self._transport.sendto(self.encryption.protect(header + payload), self._to)


class _Control(asyncio.DatagramProtocol):
    """The socket beside a line's, for RTCP alone."""

    def __init__(self, line: RtpLine) -> None:
        self._line = line

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._line.hear_control(data, address)


def _read(data: bytes) -> tuple[int, int, int, int, bytes] | None:
    """Return (payload type, sequence, time, source, payload), or None where this is no RTP."""
    if not HEADER.size <= len(data) <= LONGEST_PACKET_BYTES or data[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp, source = HEADER.unpack_from(data)
    begin, end = HEADER.size + 4 * (first & 0x0F), len(data)
    if first & 0x10:  # an extension, which nobody asked for
        if end < begin + 4:
            return None
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4])
    if first & 0x20:
        end -= data[-1]
    return None if end < begin else (second & 0x7F, sequence, timestamp, source, data[begin:end])
