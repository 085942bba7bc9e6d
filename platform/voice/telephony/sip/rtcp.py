"""What both sides of a call tell each other of the line every few seconds: RTCP (RFC 3550, section 6), without sockets.

What the other side says of our sound is worth a line on the call's page. Nothing depends on it: many peers say nothing.
"""

from __future__ import annotations

import random
import secrets
import struct
import time

from voice.telephony.arrivals import unwrap
from voice.telephony.legs import LineReport

INTERVAL_SECONDS = 5.0
"""On average: each is drawn anew, so that many calls do not tell at once. The first comes sooner."""
SENDER, RECEIVER, DESCRIPTION, GOODBYE = 200, 201, 202, 203
LONGEST_ROUND_TRIP_SECONDS = 60.0
"""More is a clock that jumped, or a report that answers none of ours."""
ROUGH_SECONDS = 0.05
"""Some tell the time that they took in whole milliseconds or worse: it may be more than all that passed."""
NTP_OFFSET = 2_208_988_800
"""From 1900, where RTCP's time begins, to 1970."""
_HEAD = struct.Struct("!BBHL")
_BLOCK = struct.Struct("!LLLLLL")
_SENDER = struct.Struct("!QLLL")
_VERSION = 2 << 6


def is_rtcp(data: bytes) -> bool:
    """Return whether this is RTCP, should it come where sound does (RFC 5761, section 4)."""
    return len(data) >= _HEAD.size and 192 <= data[1] <= 223


class _Source:
    """What came of one source, counted as RFC 3550, section 6.4.1 and appendix A.3 say."""

    def __init__(self, name: int, sequence: int, clock_hz: int) -> None:
        self.name = name
        self._clock_hz = clock_hz
        self._first = self._highest = sequence
        self._received = 0
        self._told_expected = self._told_received = 0
        self._transit: float | None = None
        self._jitter = 0.0
        self._last_report = 0
        """The middle of the time in its last sender report; 0: none came."""
        self._reported_at = 0.0

    def hear(self, sequence: int, timestamp: int | None, at: float) -> None:
        number = unwrap(sequence, after=self._highest, bits=16)
        self._first, self._highest = min(self._first, number), max(self._highest, number)
        self._received += 1
        if timestamp is None:
            return
        transit = at * self._clock_hz - timestamp
        if self._transit is not None:
            moved = abs(transit - self._transit)
            if moved < self._clock_hz:  # more is a clock that began anew, or wrapped
                self._jitter += (moved - self._jitter) / 16
        self._transit = transit

    def hear_report(self, middle: int, at: float) -> None:
        self._last_report, self._reported_at = middle, at

    def block(self, at: float) -> bytes:
        expected = self._highest - self._first + 1
        lost = expected - self._received
        expected_since, received_since = expected - self._told_expected, self._received - self._told_received
        self._told_expected, self._told_received = expected, self._received
        lost_since = max(0, expected_since - received_since)
        fraction = min(255, (lost_since << 8) // expected_since) if expected_since > 0 else 0
        ago = min(0xFFFFFFFF, int((at - self._reported_at) * 65536)) if self._last_report else 0
        return _BLOCK.pack(
            self.name,
            fraction << 24 | max(-(1 << 23), min(lost, (1 << 23) - 1)) & 0xFFFFFF,
            self._highest & 0xFFFFFFFF,
            int(self._jitter) & 0xFFFFFFFF,
            self._last_report,
            ago,
        )


class Rtcp:
    """Of one call. `ssrc` is our sound's name; times are monotonic seconds."""

    def __init__(self, ssrc: int) -> None:
        self._ssrc = ssrc
        self._name = secrets.token_urlsafe(12).encode()  # says nothing of us (RFC 7022)
        self._source: _Source | None = None
        self._packets = self._bytes = self._told_packets = 0
        self._lost: int | None = None
        self._jitter_ms = 0.0
        self._round_trips = 0
        self._round_trips_ms = 0.0

    @property
    def report(self) -> LineReport | None:
        """What the other side last said of our sound; None where it said nothing."""
        if self._lost is None:
            return None
        trips = self._round_trips
        return LineReport(self._lost, self._jitter_ms, self._round_trips_ms / trips if trips else None)

    @staticmethod
    def next_seconds(*, first: bool) -> float:
        return INTERVAL_SECONDS * random.uniform(0.5, 1.5) / (2 if first else 1)

    # --- of the sound ----------------------------------------------------------------------------------------------
    def heard(self, source: int, sequence: int, timestamp: int | None, at: float, *, clock_hz: int) -> None:
        """Count a packet of the other side's. `timestamp`: None where it is not of the moment, as a key's is not."""
        if self._source is None or self._source.name != source:
            self._source = _Source(source, sequence, clock_hz)
        self._source.hear(sequence, timestamp, at)

    def sent(self, payload_bytes: int) -> None:
        self._packets += 1
        self._bytes += payload_bytes

    # --- out -------------------------------------------------------------------------------------------------------
    def write(self, rtp_time: int, at: float, *, goodbye: bool = False) -> bytes:
        """Return what is to be told now. `rtp_time`: our sound's clock at this moment."""
        block = self._source.block(at) if self._source else b""
        is_sender, self._told_packets = self._packets > self._told_packets, self._packets
        body = block
        if is_sender:
            sent = self._packets & 0xFFFFFFFF, self._bytes & 0xFFFFFFFF
            body = _SENDER.pack(_ntp(time.time()), rtp_time, *sent) + block
        told = self._packet(SENDER if is_sender else RECEIVER, bool(block), body)
        item = b"\x01" + bytes([len(self._name)]) + self._name + b"\0"
        told += self._packet(DESCRIPTION, 1, item + b"\0" * (-len(item) % 4))
        return told + self._packet(GOODBYE, 1, b"") if goodbye else told

    def _packet(self, kind: int, count: int, body: bytes) -> bytes:
        return _HEAD.pack(_VERSION | count, kind, (_HEAD.size + len(body)) // 4 - 1, self._ssrc) + body

    # --- in --------------------------------------------------------------------------------------------------------
    def read(self, data: bytes, at: float, *, clock_hz: int) -> None:
        """Take in what the other side tells; what is not of the form is let go. `clock_hz`: of our sound."""
        while len(data) >= _HEAD.size:
            first, kind, words, source = _HEAD.unpack_from(data)
            end = 4 * (words + 1)
            if first >> 6 != 2 or not _HEAD.size <= end <= len(data):
                return
            body = data[_HEAD.size : end]
            if kind == SENDER and len(body) >= _SENDER.size:
                if self._source is not None and source == self._source.name:
                    self._source.hear_report(_SENDER.unpack_from(body)[0] >> 16 & 0xFFFFFFFF, at)
                body = body[_SENDER.size :]
            elif kind != RECEIVER:
                body = b""
            for begin in range(0, min(first & 0x1F, len(body) // _BLOCK.size) * _BLOCK.size, _BLOCK.size):
                self._read_block(*_BLOCK.unpack_from(body, begin), clock_hz=clock_hz)
            data = data[end:]

    def _read_block(
        self, about: int, losses: int, _: int, jitter: int, last_report: int, ago: int, *, clock_hz: int
    ) -> None:
        if about != self._ssrc or jitter / clock_hz > LONGEST_ROUND_TRIP_SECONDS:
            return
        lost = losses & 0xFFFFFF
        self._lost = 0 if lost >= 1 << 23 else lost  # copies make it negative
        self._jitter_ms = jitter / clock_hz * 1000
        if last_report:
            took = (_ntp(time.time()) >> 16) - last_report - ago
            took_seconds = ((took + (1 << 31) & 0xFFFFFFFF) - (1 << 31)) / 65536
            if -ROUGH_SECONDS < took_seconds < LONGEST_ROUND_TRIP_SECONDS:
                self._round_trips += 1
                self._round_trips_ms += max(0.0, took_seconds) * 1000


def _ntp(seconds: float) -> int:
    return int((seconds + NTP_OFFSET) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF
