"""Streams through a batch, as tests want them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.pcm import Samples
from gpu_workers.tts.batch import Opening, SpokenWord, Step, TtsBatch, Words

BUSY = "So many words that whoever says them has something to say for as long as anybody listens to another one. "


@contextlib.contextmanager
def batch_of(checkpoint: Checkpoint, places: int, *, temperature: float = 0.6) -> Iterator[TtsBatch]:
    batch = TtsBatch(checkpoint, places=places, temperature=temperature)
    try:
        yield batch
    finally:
        batch.close()


def join(batch: TtsBatch, place: int, *, seed: int = 1, voice: str = "calm") -> None:
    batch.join(place, Opening(seed=seed, voice=batch.voices.named(voice)))


def say(
    batch: TtsBatch, place: int, text: str, *, seed: int = 1, voice: str = "calm", beside: Sequence[int] = ()
) -> list[Step]:
    """Say a text, while the places `beside` say other things."""
    join(batch, place, seed=seed, voice=voice)
    for other in beside:
        join(batch, other, seed=other, voice="bright")
        batch.step({other: Words(batch.entries([BUSY], is_first=True))})
    steps = [batch.step({place: Words(batch.entries([text], is_first=True), are_last=True)})[place]]
    while not steps[-1].is_last:
        steps.append(batch.step({each: Words() for each in (place, *beside)})[place])
        assert len(steps) < 1_000
    return steps


def sound(steps: Sequence[Step]) -> Samples:
    return np.concatenate([step.samples for step in steps if step.samples is not None])


def words(steps: Sequence[Step]) -> list[SpokenWord]:
    return [word for step in steps for word in step.words]
