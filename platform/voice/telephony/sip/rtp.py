"""The sound of one call over RTP (RFC 3550), and its keys (RFC 4733): a socket, and the packets on it.

Order, losses and clocks are voice.telephony.arrivals', the pace is voice.telephony.pacing's. No RTCP is spoken.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np

from voice.telephony.arrivals import unwrap
from voice.telephony.g711 import FRAME_SAMPLES, Law
from voice.telephony.legs import Event, Key, Sound
from voice.telephony.sip.srtp import Encryption

HEADER = struct.Struct("!BBHLL")
VERSION = 2 << 6
MARKER = 0x80
LONGEST_PACKET_BYTES = 1_500
LONGEST_PIECE_SAMPLES = 8_000
DIGITS = "0123456789*#ABCD"
"""By RFC 4733's number of the event."""
NO_SAMPLES = np.zeros(0, np.float32)


class NoPortLeft(Exception):
    """All ports of SIP_RTP_PORTS are taken."""


class RtpLine(asyncio.DatagramProtocol):
    """Both directions of one call's sound."""

    def __init__(self, *, law: Law, keys_type: int | None, hear: Callable[[Event], None]) -> None:
        self.port = 0
        self.is_muted = False
        """Whether nothing is sent: our time passes all the same."""
        self.is_deaf = False
        """Whether what comes is taken for silence."""
        self.heard_at = time.monotonic()
        self.law = law
        self.keys_type = keys_type
        self.encryption = Encryption()
        """Of the sound."""
        self._hear = hear
        self._transport: asyncio.DatagramTransport | None = None
        self._to: tuple[str, int] | None = None
        self._hosts: set[str] = set()
        self._source = self._key_at = -1
        self._sequence = self._position = -1
        """Of the last packet, as the bridge counts them; -1 before the first."""
        self._shift_sequence = self._shift_position = 0
        self._sent = secrets.randbelow(1 << 15)
        self._time = secrets.randbits(31)
        self._ssrc = secrets.randbits(32)
        self._begins = True

    async def open(self, host: str, ports: Iterable[int]) -> None:
        """Take the first port that is free.

        Raises:
            NoPortLeft
        """
        for port in ports:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(host, port))
                self.port = port
                return
        raise NoPortLeft

    def connect(self, address: tuple[str, int], *others: str) -> None:
        """Say where the other side wants its sound, and from which other hosts its own may come: through a NAT."""
        self._to = address
        self._hosts = {address[0], *others}

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- in --------------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        if address[0] not in self._hosts or len(data) > LONGEST_PACKET_BYTES:
            return
        plain = self.encryption.unprotect(data)
        if plain is None or (packet := _read(plain)) is None:
            return
        payload_type, sequence, timestamp, source, payload = packet
        if payload_type not in (self.law.payload_type, self.keys_type) and not payload_type == 13:
            return
        self._to = address[:2]  # behind a NAT its own description does not lead to it
        self.heard_at = time.monotonic()
        if source != self._source:
            self._begin(source, sequence, timestamp)
        self._sequence = unwrap(sequence + self._shift_sequence, after=self._sequence, bits=16)
        position = unwrap(timestamp + self._shift_position, after=self._position, bits=32)
        samples = NO_SAMPLES
        if payload_type == self.law.payload_type and 0 < len(payload) <= LONGEST_PIECE_SAMPLES:
            self._position = position
            samples = np.zeros(len(payload), np.float32) if self.is_deaf else self.law.decode(payload)
        self._hear(Sound(self._sequence, position, samples, self.heard_at))
        if payload_type == self.keys_type and not self.is_deaf:
            self._hear_key(payload, timestamp)

    def _begin(self, source: int, sequence: int, timestamp: int) -> None:
        """Go on counting where another source takes over: after a hold, or put through by its PBX."""
        self._source = source
        self._shift_sequence = self._sequence + 1 - sequence
        self._shift_position = (self._position + FRAME_SAMPLES if self._position >= 0 else 0) - timestamp
        self._key_at = -1

    def _hear_key(self, payload: bytes, timestamp: int) -> None:
        """Take a key when its first packet comes: all of its packets have the time of its beginning."""
        if len(payload) >= 4 and timestamp != self._key_at and payload[0] < len(DIGITS):
            self._key_at = timestamp
            self._hear(Key(DIGITS[payload[0]]))

    # --- out -------------------------------------------------------------------------------------------------------
    def send(self, payload: bytes) -> None:
        """Send a frame of 20 ms."""
        self._time = (self._time + FRAME_SAMPLES) & 0xFFFFFFFF
        if self.is_muted or self._to is None or self._transport is None or self._transport.is_closing():
            self._begins = True
            return
        self._sent = (self._sent + 1) & 0xFFFF
        mark = MARKER if self._begins else 0
        self._begins = False
        header = HEADER.pack(VERSION, self.law.payload_type | mark, self._sent, self._time, self._ssrc)
        self._transport.sendto(self.encryption.protect(header + payload), self._to)


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
