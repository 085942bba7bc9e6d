"""What clients send, read; what they get, written."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from gpu_workers import moshi_messages
from gpu_workers.moshi_messages import BadMessage, MessageTooBig
from gpu_workers.stt import messages
from gpu_workers.stt.batch import Heard
from gpu_workers.stt.messages import Audio, Init, Marker, OggOpus, Request
from gpu_workers.stt.words import EndWord, Word


def read(message: bytes) -> Request:
    return messages.read(*moshi_messages.unpack(message))


@pytest.mark.parametrize("single", [True, False])
def test_sound_is_read_in_either_precision(single: bool) -> None:
    audio = read(msgpack.packb({"type": "Audio", "pcm": [0.5, -0.25, 0, 2.0]}, use_single_float=single))
    assert isinstance(audio, Audio)
    assert audio.samples.dtype == np.float32
    assert audio.samples.tolist() == [0.5, -0.25, 0.0, 1.0]


def test_other_requests_are_read() -> None:
    assert read(msgpack.packb({"type": "Marker", "id": -7})) == Marker(-7)
    assert read(msgpack.packb({"type": "Init"})) == Init()
    assert read(msgpack.packb({"type": "OggOpus", "data": b"OggS"})) == OggOpus(b"OggS")
    assert read(msgpack.packb({"type": "OggOpus", "data": list(b"OggS")})) == OggOpus(b"OggS")


BAD: list[tuple[Any, str]] = [
    (b"", "not MessagePack"),
    (b"\xc1", "not MessagePack"),
    (b"\x93\x01", "not MessagePack"),
    (b"\x91" * 5000 + b"\x01", "not MessagePack"),
    (b"\x81\xc0\x01", "not MessagePack"),
    (b"\xdf\xff\xff\xff\xff", "not MessagePack"),
    (b"\x01\x02", "not MessagePack"),
    (b"\xa2\xff\xfe", "not MessagePack"),
    ({"type": "Nonsense"}, "'Nonsense' are not known"),
    ({"type": 3}, "not a map with a type"),
    ([1, 2], "not a map with a type"),
    ({}, "not a map with a type"),
    ({"type": "Audio"}, "lacks pcm"),
    ({"type": "Audio", "pcm": 3}, "not a list of numbers"),
    ({"type": "Audio", "pcm": b"\x00\x00"}, "not a list of numbers"),
    ({"type": "Audio", "pcm": ["0.5"]}, "not a list of numbers"),
    ({"type": "Audio", "pcm": [0.5, None]}, "not a list of numbers"),
    ({"type": "Audio", "pcm": [[0.5]]}, "not a list of numbers"),
    ({"type": "Audio", "pcm": [[0.5], []]}, "not a list of numbers"),
    ({"type": "Audio", "pcm": [{}]}, "not a list of numbers"),
    ({"type": "Audio", "pcm": [float("nan")]}, "not finite"),
    ({"type": "Audio", "pcm": [float("inf")]}, "not finite"),
    ({"type": "Marker"}, "lacks id"),
    ({"type": "Marker", "id": "one"}, "not an integer"),
    ({"type": "Marker", "id": True}, "not an integer"),
    ({"type": "Marker", "id": 2**63}, "not an integer"),
    ({"type": "OggOpus", "data": "OggS"}, "not bytes"),
    ({"type": "OggOpus", "data": [256]}, "not bytes"),
    ({"type": "OggOpus", "data": 10**9}, "not bytes"),
]


@pytest.mark.parametrize(("message", "sentence"), BAD)
def test_what_is_not_of_the_form_is_told_in_a_sentence(message: Any, sentence: str) -> None:
    with pytest.raises(BadMessage, match=sentence):
        read(message if isinstance(message, bytes) else msgpack.packb(message))


def test_a_message_too_big_is_told_so() -> None:
    with pytest.raises(MessageTooBig, match="longer than 524,288 bytes"):
        read(bytes(moshi_messages.MAX_MESSAGE_BYTES + 1))


def test_what_a_step_gave_is_written_as_moshi_server_writes_it() -> None:
    step = Heard(step=31, pauses=(0.25, 0.5), said=(Word("hello", 1.22), EndWord(1.54)))
    assert [msgpack.unpackb(message) for message in messages.heard(step, buffered_samples=1920)] == [
        {"type": "Step", "step_idx": 31, "prs": [0.25, 0.5], "buffered_pcm": 1920},
        {"type": "Word", "text": "hello", "start_time": 1.22},
        {"type": "EndWord", "stop_time": 1.54},
    ]
    assert messages.heard(Heard(step=1, pauses=(), said=()), buffered_samples=0) == []


def test_the_other_messages_are_written_as_moshi_server_writes_them() -> None:
    assert msgpack.unpackb(moshi_messages.ready({"boot": "cold"})) == {"type": "Ready", "boot": {"boot": "cold"}}
    assert msgpack.unpackb(messages.marker(3)) == {"type": "Marker", "id": 3}
    assert msgpack.unpackb(moshi_messages.error("No.")) == {"type": "Error", "message": "No."}
