"""How many conversations one device carries: measured at start-up, because no table knows the device."""

from __future__ import annotations

import logging
import os
import time

import numpy as np
import torch

from gpu_workers.moshi.batch import MoshiBatch, Opening
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.pcm import Samples

logger = logging.getLogger(__name__)

WARM_UP_FRAMES = 8
"""CUDA graphs are captured, and caches allocated, in the first steps."""
MEASURED_FRAMES = 25


def frame_budget() -> float:
    """Return the share of a frame's time that a step may take: FRAME_BUDGET, else 0.8."""
    return float(os.environ.get("FRAME_BUDGET") or 0.8)


def largest_batch(checkpoint: Checkpoint, *, at_most: int) -> MoshiBatch:
    """Return a warm batch of as many places as step in time and fit into memory; at least one.

    Halves until a batch fits, then looks between for the largest that does.
    """
    fits, too_many = 0, at_most + 1
    places = at_most
    batch: MoshiBatch | None = None
    while True:
        if batch is not None:
            batch.close()
        batch = _try(checkpoint, places)
        if batch is not None:
            fits = places
        else:
            too_many = places
        if fits == too_many - 1:
            break
        places = (fits + too_many) // 2 if fits else max(1, places // 2)
    if batch is None:
        batch = MoshiBatch(checkpoint, places=max(1, fits))
        step_seconds(batch)
    if not fits:
        logger.warning("this device is too slow for one conversation in real time")
    logger.info("batch", extra={"fields": {"places": batch.places, "wanted": at_most}})
    return batch


def _try(checkpoint: Checkpoint, places: int) -> MoshiBatch | None:
    """Return a warm batch of so many places, or None where it does not fit."""
    try:
        batch = MoshiBatch(checkpoint, places=places)
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


def step_seconds(batch: MoshiBatch, *, frames: int = MEASURED_FRAMES, percentile: float = 90) -> float:
    """Return how long a step takes with all places taken, at a percentile of some frames."""
    noise = np.random.default_rng(0).standard_normal(batch.frame_samples).astype(np.float32) / np.float32(10)
    for place in range(batch.places):
        batch.join(place, Opening(seed=place))
    work: dict[int, Samples | None] = dict.fromkeys(range(batch.places), noise)
    seconds = []
    for frame in range(WARM_UP_FRAMES + frames):
        began_at = time.perf_counter()
        batch.step(work)  # its samples come to the CPU: nothing is left to wait for
        if frame >= WARM_UP_FRAMES:
            seconds.append(time.perf_counter() - began_at)
    return float(np.percentile(seconds, percentile))
