"""Sound for a batch, and conversations held in one place of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from gpu_workers.batching import Prompted
from gpu_workers.moshi.batch import MoshiBatch, Opening, Spoken
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.moshi.generation import Forced
from gpu_workers.pcm import Samples

FRAME_SAMPLES = 1920


def sound(seed: int, frames: int) -> list[Samples]:
    noise = np.random.default_rng(seed).standard_normal((frames, FRAME_SAMPLES)) / 10
    return list(noise.astype(np.float32))


@contextlib.contextmanager
def batch_of(checkpoint: Checkpoint, places: int) -> Iterator[MoshiBatch]:
    batch = MoshiBatch(checkpoint, places=places)
    try:
        yield batch
    finally:
        batch.close()


def converse(
    batch: MoshiBatch,
    place: int,
    frames: Sequence[Samples],
    *,
    seed: int,
    prompt: tuple[Forced, ...] = (),
    beside: Sequence[int] = (),
) -> list[Spoken]:
    """Hold one conversation and return what was said; places `beside` are stepped with noise in two of three frames."""
    others = iter(sound(991, 3 * (len(frames) + len(prompt)) * max(1, len(beside))))
    said = []
    is_prompting = batch.join(place, Opening(seed, prompt))
    while is_prompting:
        outputs = batch.step({place: None, **{other: next(others) for other in beside}})
        is_prompting = outputs.get(place) is not Prompted
    for number, frame in enumerate(frames):
        work = {place: frame}
        if number % 3:
            work |= {other: next(others) for other in beside}
        output = batch.step(work).get(place)
        if isinstance(output, Spoken):
            said.append(output)
    return said


def words(said: Sequence[Spoken]) -> str:
    return "".join(each.text for each in said)


def difference(one: Sequence[Spoken], other: Sequence[Spoken]) -> float:
    """Return by how much two answers differ in sound at most."""
    assert len(one) == len(other)
    return max(float(np.abs(a.samples - b.samples).max()) for a, b in zip(one, other, strict=True))
