"""Moonshine base-en on onnxruntime: 16 kHz samples in, words out.

One object serves all sessions of a process: it keeps nothing between calls, and survives a fork.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpu_workers import onnx_sessions
from gpu_workers.cascade import prepare
from gpu_workers.pcm import Samples

SAMPLE_RATE_HZ = 16_000
START_TOKEN, END_TOKEN = 1, 2
LAYERS, HEADS, HEAD_SIZE = 8, 8, 52
MIN_SAMPLES = SAMPLE_RATE_HZ // 4
"""The first convolutions need some length; shorter audio is padded with silence."""
MAX_TOKENS_PER_SECOND = 8
"""Fast speech is under 7 tokens a second; what runs on beyond that repeats itself and is cut."""


class Moonshine:
    """Speech to text. `transcribe` blocks (about 100 ms of one core for 3 s of speech) and may run in any thread."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or prepare.prepare()
        try:
            self._encoder = onnx_sessions.open_session(folder / prepare.ENCODER)
            self._decoder = onnx_sessions.open_session(folder / prepare.DECODER)
            self._tokens = _read_tokens(folder / prepare.TOKENS)
        except Exception as problem:
            raise RuntimeError(f"{folder} is damaged: delete it, and it is made anew. ({problem})") from problem
        # Encoder outputs are named cross/present.N.encoder.key, the decoder's inputs past_key_values.N.encoder.key.
        self._cross_names = [
            output.name.replace("cross/present", "past_key_values") for output in self._encoder.get_outputs()
        ]
        self._past_names = [
            output.name.replace("present", "past_key_values") for output in self._decoder.get_outputs()[1:]
        ]

    def transcribe(self, samples: Samples) -> str:
        """Return the words spoken in `samples` (16 kHz, -1 to 1), or an empty string."""
        if len(samples) < MIN_SAMPLES:
            samples = np.pad(samples, (0, MIN_SAMPLES - len(samples)))
        encoded = self._encoder.run(None, {"encoder/input_values": samples[None]})
        cross = dict(zip(self._cross_names, encoded, strict=True))
        past = {name: np.zeros((1, HEADS, 0, HEAD_SIZE), np.float32) for name in self._past_names}
        tokens: list[int] = []
        token = START_TOKEN
        for _ in range(int(len(samples) / SAMPLE_RATE_HZ * MAX_TOKENS_PER_SECOND) + 2):
            logits, *present = self._decoder.run(None, {"input_ids": np.array([[token]]), **cross, **past})
            token = int(logits[0, -1].argmax())
            if token == END_TOKEN:
                break
            tokens.append(token)
            past = dict(zip(self._past_names, present, strict=True))
        return self._spell(tokens)

    def _spell(self, tokens: list[int]) -> str:
        pieces = b"".join(self._tokens[token] for token in tokens if token < len(self._tokens))
        return pieces.decode(errors="replace").replace("▁", " ").strip()


def _read_tokens(path: Path) -> list[bytes]:
    """Read the vocabulary: each token's length in one byte (two from 128 on), then its bytes."""
    data = path.read_bytes()
    tokens: list[bytes] = []
    at = 0
    while at < len(data):
        length, at = data[at], at + 1
        if length >= 128:
            length, at = length - 128 + data[at] * 128, at + 1
        tokens.append(data[at : at + length])
        at += length
    return tokens
