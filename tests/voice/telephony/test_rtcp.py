"""What both sides tell each other of the line: RTCP as others write and read it, and what is none. No sockets."""

from __future__ import annotations

import random
import struct
import time

import pytest

from voice.telephony.sip.rtcp import Rtcp, is_rtcp

OURS, THEIRS = 0x11111111, 0x22222222


def packets_of(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return (count, kind, what follows the head) of each packet."""
    found = []
    while data:
        first, kind, words = struct.unpack_from("!BBH", data)
        assert first >> 6 == 2 and len(data) >= 4 * (words + 1)
        found.append((first & 0x1F, kind, data[4 : 4 * (words + 1)]))
        data = data[4 * (words + 1) :]
    return found


def receiver_report(*, about: int = OURS, lost: int = 3, jitter: int = 80, last: int = 0, ago: int = 0) -> bytes:
    block = struct.pack("!LLLLLL", about, lost & 0xFFFFFF, 9, jitter, last, ago)
    return struct.pack("!BBHL", 0x81, 201, 7, THEIRS) + block


def hear(rtcp: Rtcp, count: int, *, without: tuple[int, ...] = (), first: int = 65_530, late_ticks: int = 0) -> None:
    for number in range(count):
        if number not in without:
            at = number * 0.02 + (late_ticks / 8000 if number % 2 else 0)
            rtcp.heard(THEIRS, (first + number) & 0xFFFF, 160 * number, at, clock_hz=8000)


def test_before_any_sound_a_report_says_who_we_are_and_nothing_else() -> None:
    (count, kind, told), (_, named, names) = packets_of(Rtcp(OURS).write(0, 1.0))
    assert (count, kind, told) == (0, 201, struct.pack("!L", OURS))
    assert named == 202 and names[:6] == struct.pack("!LBB", OURS, 1, 16) and not names[22:].strip(b"\0")


def test_a_report_counts_what_was_sent_and_what_was_lost_since_the_last() -> None:
    rtcp = Rtcp(OURS)
    hear(rtcp, 100, without=(5, 6, 7, 8, 50))
    for _ in range(7):
        rtcp.sent(160)
    (count, kind, told), *_ = packets_of(rtcp.write(123_456, 2.0))
    ours, ntp, clock, packets, octets = struct.unpack_from("!LQLLL", told)
    assert (count, kind, ours, clock, packets, octets) == (1, 200, OURS, 123_456, 7, 7 * 160)
    assert abs((ntp >> 32) - 2_208_988_800 - time.time()) < 5
    about, losses, highest, jitter, last, ago = struct.unpack_from("!LLLLLL", told, 24)
    assert (about, losses >> 24, losses & 0xFFFFFF) == (THEIRS, 256 * 5 // 100, 5)
    assert highest == (1 << 16) + (65_530 + 99) % 65_536 and (jitter, last, ago) == (0, 0, 0)
    # Nothing was sent since: only receivers tell. Nothing was lost since either.
    hear(rtcp, 50, first=65_530 + 100)
    (_, kind, told), *_ = packets_of(rtcp.write(0, 3.0))
    losses = struct.unpack_from("!LLL", told)[2]
    assert kind == 201 and (losses >> 24, losses & 0xFFFFFF) == (0, 5)


def test_jitter_is_told_in_the_clock_of_the_sound() -> None:
    rtcp = Rtcp(OURS)
    hear(rtcp, 500, late_ticks=40)
    (_, _, told), *_ = packets_of(rtcp.write(0, 10.0))
    assert struct.unpack_from("!LLLLL", told)[4] == pytest.approx(40, abs=2)


def test_another_source_is_counted_anew() -> None:
    rtcp = Rtcp(OURS)
    hear(rtcp, 100, without=(5,))
    rtcp.heard(7, 1, 0, 3.0, clock_hz=8000)
    (_, _, told), *_ = packets_of(rtcp.write(0, 3.0))
    assert struct.unpack_from("!LLL", told)[1:] == (7, 0)


def test_a_round_trip_is_what_passed_without_the_time_that_the_other_side_took() -> None:
    rtcp = Rtcp(OURS)
    rtcp.sent(160)
    (_, _, told), *_ = packets_of(rtcp.write(0, 1.0))
    middle = struct.unpack_from("!Q", told, 4)[0] >> 16 & 0xFFFFFFFF
    assert rtcp.report is None
    rtcp.read(receiver_report(last=middle - int(1.25 * 65_536), ago=int(1.2 * 65_536)), 1.0, clock_hz=8000)
    report = rtcp.report
    assert report is not None and (report.packets_lost, report.jitter_ms) == (3, 10)
    assert report.round_trip_ms == pytest.approx(50, abs=20)
    rtcp.read(receiver_report(last=middle, ago=int(0.02 * 65_536)), 1.0, clock_hz=8000)  # more than can have passed
    rounded = rtcp.report
    assert rounded is not None and rounded.round_trip_ms == pytest.approx(report.round_trip_ms / 2, abs=10)
    rtcp.read(receiver_report(lost=-2, last=middle + 99_999_999), 1.0, clock_hz=48_000)
    again = rtcp.report
    assert again is not None and again.packets_lost == 0 and again.jitter_ms == pytest.approx(80 / 48)
    assert again.round_trip_ms == rounded.round_trip_ms  # a time that cannot be is none


def test_what_the_other_side_tells_of_its_clock_comes_back_to_it() -> None:
    rtcp = Rtcp(OURS)
    hear(rtcp, 10)
    sender = struct.pack("!BBHLQLLL", 0x80, 200, 6, THEIRS, 0x1234_5678_9ABC_DEF0, 0, 1, 1)
    rtcp.read(sender.replace(struct.pack("!L", THEIRS), b"abcd"), 5.0, clock_hz=8000)
    assert struct.unpack_from("!LLLLLLL", packets_of(rtcp.write(0, 5.5))[0][2])[5:] == (0, 0)
    rtcp.read(sender + receiver_report(), 5.0, clock_hz=8000)
    assert struct.unpack_from("!LLLLLLL", packets_of(rtcp.write(0, 5.5))[0][2])[5:] == (0x5678_9ABC, 32_768)
    assert rtcp.report is not None


def test_a_goodbye_is_the_last_of_what_is_told() -> None:
    assert [kind for _, kind, _ in packets_of(Rtcp(OURS).write(0, 1.0, goodbye=True))] == [201, 202, 203]


def test_reports_are_told_about_every_five_seconds_and_not_all_at_once() -> None:
    seconds = [Rtcp.next_seconds(first=False) for _ in range(1000)]
    assert 2.5 <= min(seconds) < 3 and 7 < max(seconds) <= 7.5
    assert all(1.25 <= Rtcp.next_seconds(first=True) <= 3.75 for _ in range(100))


def test_what_is_not_of_the_form_or_of_another_line_is_let_go() -> None:
    rtcp, dice = Rtcp(OURS), random.Random(5)
    rtcp.read(receiver_report(about=THEIRS), 1.0, clock_hz=8000)
    for end in range(32):
        rtcp.read(receiver_report()[:end], 1.0, clock_hz=8000)
    rtcp.read(receiver_report(jitter=0xFFFFFFFF), 1.0, clock_hz=8000)
    rtcp.read(bytes([0x9F]) + receiver_report(about=1)[1:], 1.0, clock_hz=8000)
    for _ in range(3000):
        rtcp.read(
            bytes([0x80 | dice.randrange(64)]) + bytes([dice.randrange(192, 224)]) + dice.randbytes(60),
            1,
            clock_hz=8000,
        )
    assert rtcp.report is None
    assert is_rtcp(receiver_report()) and not is_rtcp(b"\x80\x00" + bytes(20)) and not is_rtcp(b"\x80\xc9")
