"""G.711: speech at 8 kHz in bytes, by mu-law (America, Japan) or A-law (elsewhere). Tables, made at import.

Source: ITU-T G.711.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RATE_HZ = 8_000
FRAME_SECONDS = 0.02
FRAME_SAMPLES = 160
"""What carriers send in one piece, and get: 20 ms."""
QUIET = 0.01
"""Of full scale: a frame whose root mean square is below can go or be doubled unheard."""


def is_quiet(samples: Samples) -> bool:
    return bool(np.sqrt(np.mean(samples**2)) < QUIET)


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """One of the two laws. `name` is RTP's (RFC 3551)."""

    name: str
    payload_type: int
    _to_samples: Samples
    _to_bytes: npt.NDArray[np.uint8]

    @property
    def silence(self) -> bytes:
        """A frame in which nothing is heard."""
        return self.encode(np.zeros(FRAME_SAMPLES, np.float32))

    def decode(self, sound: bytes) -> Samples:
        """Return samples from -1 to 1."""
        return self._to_samples[np.frombuffer(sound, np.uint8)]

    def encode(self, samples: Samples) -> bytes:
        """Return a byte for each sample; what is too loud is clipped."""
        linear = np.clip(samples * 32768.0, -32768, 32767).astype(np.int32)
        return self._to_bytes[(linear + 32768) >> 2].tobytes()

    def is_quiet(self, samples: Samples) -> bool:
        return is_quiet(samples)


def _mu_law() -> npt.NDArray[np.int32]:
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 0x0F).astype(np.int32)
    magnitude = ((mantissa << 3) + 0x84 << exponent) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude)


def _a_law() -> npt.NDArray[np.int32]:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 0x0F).astype(np.int32)
    magnitude = np.where(exponent == 0, (mantissa << 4) + 8, (mantissa << 4) + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude)


def _law(name: str, payload_type: int, decoded: npt.NDArray[np.int32]) -> Law:
    """Return a law from its decoding: each value of 14 bits is written as the code that comes nearest."""
    order = np.argsort(decoded, kind="stable")
    values = decoded[order]
    linear = (np.arange(1 << 14, dtype=np.int32) << 2) - 32768 + 2
    above = np.clip(np.searchsorted(values, linear), 1, 255)
    nearest = np.where(linear - values[above - 1] < values[above] - linear, above - 1, above)
    return Law(name, payload_type, (decoded / 32768).astype(np.float32), order[nearest].astype(np.uint8))


PCMU = _law("PCMU", 0, _mu_law())
PCMA = _law("PCMA", 8, _a_law())
LAWS = {law.name: law for law in (PCMU, PCMA)}
