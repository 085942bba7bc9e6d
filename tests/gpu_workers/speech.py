"""Speech for tests, spoken by the text-to-speech of the cascade."""

from __future__ import annotations

import functools

import numpy as np
import soxr
from hibari import Hibari

from gpu_workers import protocol
from gpu_workers.cascade.speaking import trim
from gpu_workers.pcm import Samples


@functools.cache
def _voice() -> Hibari:
    return Hibari()


@functools.cache
def speak(words: str) -> Samples:
    """Return the words at 24 kHz; the same words always sound the same. No silence before, little after."""
    return trim(_voice()(words, seed=1))


def speak_at_16_khz(words: str) -> Samples:
    return soxr.resample(speak(words), protocol.SAMPLE_RATE_HZ, 16_000).astype(np.float32)


def seconds(samples: Samples) -> float:
    return len(samples) / protocol.SAMPLE_RATE_HZ
