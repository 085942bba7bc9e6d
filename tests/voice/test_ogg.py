"""The header pages of a stream are found whatever messages they come in, and never waited for without end."""

from __future__ import annotations

import numpy as np
import pytest
import sphn

from gpu_workers import protocol
from voice.ogg import MOST_BYTES, MOST_MESSAGES, StreamHead


@pytest.fixture(scope="module")
def stream() -> bytes:
    writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
    return b"".join(writer.append_pcm(np.zeros(1920, np.float32)) for _ in range(3))


@pytest.fixture(scope="module")
def headers(stream: bytes) -> bytes:
    return stream[: stream.index(b"OggS", stream.index(b"OpusTags"))]


def test_both_header_pages_are_kept(stream: bytes, headers: bytes) -> None:
    head = StreamHead()
    head.look(protocol.audio(stream))
    assert head.is_over and head.pages == headers
    assert headers.count(b"OggS") == 2


@pytest.mark.parametrize("size", [40, 47, 60])
def test_they_may_come_in_several_messages(stream: bytes, headers: bytes, size: int) -> None:
    head = StreamHead()
    head.look(protocol.PING)
    for at in range(0, len(stream), size):
        head.look(protocol.audio(stream[at : at + size]))
    assert head.pages == headers


@pytest.mark.parametrize("message", [b"\x01OggS", b"\x01no Ogg at all", b"\x01"])
def test_who_sends_no_headers_is_not_looked_at_for_long(message: bytes) -> None:
    head = StreamHead()
    for _ in range(MOST_MESSAGES):
        assert not head.is_over
        head.look(message)
    assert head.is_over and head.pages == b""


def test_endless_headers_are_not_kept(headers: bytes) -> None:
    endless = bytearray(headers[:47]) + b"OggS" + bytes(22) + b"\xff" + b"\xff" * 255
    head = StreamHead()
    head.look(protocol.audio(bytes(endless)))
    head.look(protocol.audio(bytes(MOST_BYTES)))
    assert head.is_over and head.pages == b""
