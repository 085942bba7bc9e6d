"""Samples as engines reckon with them (float32, -1 to 1), and as 16-bit PCM."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


def to_bytes(samples: Samples) -> bytes:
    """Return 16-bit PCM; what is too loud is clipped."""
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()


def to_samples(pcm: bytes) -> Samples:
    return np.divide(np.frombuffer(pcm, np.int16), 32767, dtype=np.float32)
