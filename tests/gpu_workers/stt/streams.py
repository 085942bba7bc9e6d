"""Streams transcribed in one place of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from gpu_workers.batching import Prompted
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.pcm import Samples
from gpu_workers.stt.batch import Heard, SttBatch
from gpu_workers.stt.words import EndWord, Word
from tests.gpu_workers.moshi.streams import sound


@contextlib.contextmanager
def batch_of(checkpoint: Checkpoint, places: int) -> Iterator[SttBatch]:
    batch = SttBatch(checkpoint, places=places)
    try:
        yield batch
    finally:
        batch.close()


def transcribe(batch: SttBatch, place: int, frames: Sequence[Samples], *, beside: Sequence[int] = ()) -> list[Heard]:
    """Transcribe one stream; places `beside` are stepped with noise in two of three frames."""
    others = iter(sound(991, 3 * len(frames) * max(1, len(beside))))
    heard = []
    has_prefix = batch.join(place)
    while has_prefix:
        has_prefix = batch.step({place: None}).get(place) is not Prompted
    for number, frame in enumerate(frames):
        work: dict[int, Samples | None] = {place: frame}
        if number % 3:
            work |= {other: next(others) for other in beside}
        output = batch.step(work)[place]
        assert isinstance(output, Heard)
        heard.append(output)
    return heard


def said(heard: Sequence[Heard]) -> list[Word | EndWord]:
    return [each for step in heard for each in step.said]


def pauses(heard: Sequence[Heard]) -> np.ndarray:
    return np.array([step.pauses for step in heard])
