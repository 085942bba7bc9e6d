"""How many streams one device carries: measured at start-up, because no table knows the device."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from gpu_workers import batching
from gpu_workers.pcm import Samples

logger = logging.getLogger(__name__)

WARM_UP_FRAMES = 8
"""CUDA graphs are captured, and caches allocated, in the first steps."""
MEASURED_FRAMES = 25


class Batch(batching.Batch, Protocol):
    """A batch whose steps can be measured."""

    def fill(self) -> dict[int, Any]:
        """Give every place to a stream, and return frames that keep all of them busy."""

    def close(self) -> None:
        """Forget all states, so that the checkpoint can be used in another batch."""


B = TypeVar("B", bound=Batch)


def frame_budget() -> float:
    """Return the share of a frame's time that a step may take: FRAME_BUDGET, else 0.8."""
    return float(os.environ.get("FRAME_BUDGET") or 0.8)


def largest_batch(make: Callable[[int], B], *, at_most: int) -> B:
    """Return a warm batch of as many places as step in time and fit into memory; at least one.

    Halves until a batch fits, then looks between for the largest that does.

    Args:
        make: makes a batch of so many places.
    """
    fits, too_many = 0, at_most + 1
    places = at_most
    batch: B | None = None
    while True:
        if batch is not None:
            batch.close()
        batch = _try(make, places)
        if batch is not None:
            fits = places
        else:
            too_many = places
        if fits == too_many - 1:
            break
        places = (fits + too_many) // 2 if fits else max(1, places // 2)
    if batch is None:
        batch = make(max(1, fits))
        step_seconds(batch)
    if not fits:
        logger.warning("this device is too slow for one stream in real time")
    logger.info("batch", extra={"fields": {"places": batch.places, "wanted": at_most}})
    return batch


def _try(make: Callable[[int], B], places: int) -> B | None:
    """Return a warm batch of so many places, or None where it does not fit."""
    try:
        batch = make(places)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    try:
        seconds = step_seconds(batch)
    except torch.OutOfMemoryError:
        batch.close()
        torch.cuda.empty_cache()
        return None
    if seconds > frame_budget() * batch.frame_seconds:
        batch.close()
        return None
    return batch


def step_seconds(batch: Batch, *, frames: int = MEASURED_FRAMES, percentile: float = 90) -> float:
    """Return how long a step takes with all places taken, at a percentile of some frames."""
    work = batch.fill()
    seconds = []
    for frame in range(WARM_UP_FRAMES + frames):
        began_at = time.perf_counter()
        batch.step(work)  # its outputs come to the CPU: nothing is left to wait for
        if frame >= WARM_UP_FRAMES:
            seconds.append(time.perf_counter() - began_at)
    return float(np.percentile(seconds, percentile))


def noise(samples: int) -> Samples:
    """Return a frame of sound that is not silence."""
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32) / np.float32(10)
