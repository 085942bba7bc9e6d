"""What clients send, read; what they get, written."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
import sphn
import torch

from gpu_workers import moshi_messages
from gpu_workers.moshi_messages import BadMessage
from gpu_workers.tts import messages
from gpu_workers.tts.batch import SpokenWord
from gpu_workers.tts.messages import Eos, Request, Text, Voice


def read(message: bytes) -> Request:
    return messages.read(*moshi_messages.unpack(message))


def test_requests_are_read() -> None:
    assert read(msgpack.packb({"type": "Text", "text": "Good morning."})) == Text("Good morning.")
    assert read(msgpack.packb({"type": "Eos"})) == Eos()
    voice = read(msgpack.packb({"type": "Voice", "embeddings": [1.0, 2, 3, 4, 5, 6.5], "shape": [1, 2, 3]}))
    assert isinstance(voice, Voice)
    assert torch.equal(voice.embedding, torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]]))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "Audio"}, "'Audio' are not known here: send Text, Voice or Eos"),
    ({"type": "Text"}, "type Text lacks text"),
    ({"type": "Text", "text": 3}, "text was not text"),
    ({"type": "Text", "text": "a" * 20_001}, "longer than 20,000 characters"),
    ({"type": "Voice", "shape": [1]}, "type Voice lacks embeddings"),
    ({"type": "Voice", "embeddings": [1.0]}, "type Voice lacks shape"),
    ({"type": "Voice", "embeddings": [1.0], "shape": 1}, "shape was not a list of sizes"),
    ({"type": "Voice", "embeddings": [1.0], "shape": [-1]}, "shape was not a list of sizes"),
    ({"type": "Voice", "embeddings": [1.0], "shape": [10**9, 10**9]}, "1 embeddings do not make the shape"),
    ({"type": "Voice", "embeddings": [float("inf")], "shape": [1]}, "not finite"),
]


@pytest.mark.parametrize(("document", "sentence"), BAD)
def test_what_is_not_of_the_form_is_told_in_a_sentence(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadMessage, match=sentence):
        read(msgpack.packb(document))


def test_sound_and_words_are_written_as_moshi_server_writes_them() -> None:
    samples = np.sin(np.arange(1_920) / 20).astype(np.float32)
    assert np.array_equal(np.frombuffer(messages.form({"format": "Pcm"}).sound(samples), "<f4"), samples)
    packed = msgpack.unpackb(messages.form({"format": "PcmMessagePack"}).sound(samples))
    assert packed == {"type": "Audio", "pcm": samples.tolist()}
    for name in ("OggOpus", "OggOpusMessagePack"):
        form, reader, heard = messages.form({"format": name}), sphn.OpusStreamReader(24_000), []
        for _ in range(20):
            message = form.sound(samples)
            if message and form.is_packed:
                document = msgpack.unpackb(message)
                assert document["type"] == "OggOpus"
                message = document["data"]
            heard.append(np.asarray(reader.append_bytes(message)) if message else np.zeros(0))
        assert np.abs(np.concatenate(heard)).max() > 0.5
    assert msgpack.unpackb(messages.word(SpokenWord("nine", 0.8, 1.2))) == {
        "type": "Text", "text": "nine", "start_s": 0.8, "stop_s": 1.2,
    }  # fmt: skip


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(BadMessage, match="'Mp3' is not known here: ask for OggOpus, OggOpusMessagePack"):
        messages.form({"format": "Mp3"})
    assert not messages.form({}).is_packed
