"""Keys as tones among the sound (ITU-T Q.23), for lines that carry them no other way. Speech must not be taken for one.

A window holds a key where nearly all its energy lies in one low and one high tone, about equally loud. Three windows in
a row make a press: 40 ms, the shortest that a receiver has to know (ITU-T Q.24).
"""

from __future__ import annotations

import numpy as np

from voice.telephony.g711 import RATE_HZ, Samples

LOW_HZ, HIGH_HZ = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
KEYS = ("123A", "456B", "789C", "*0#D")
DETUNED = (-0.013, 0.0, 0.013)
"""Tones may be wrong by 1.5 %: each is looked for at three places."""
WINDOW, HOP = 160, 80
WINDOWS_OF_A_KEY = 3
WINDOWS_OF_A_PAUSE = 3
"""Without the key, before it can be pressed again."""
LEAST_SHARE = 0.72
"""Of a window's energy that is both tones'."""
LEAST_LOUDNESS = 0.005
"""Root mean square of a window."""
LOW_LOUDER_DB, HIGH_LOUDER_DB = 8.0, 6.0
"""How much one may be louder than the other: lines take more of high tones."""


def _waves() -> np.ndarray:
    """Return the waves that a window is compared with: four low and four high ones, each at all its places."""
    hertz = np.outer((*LOW_HZ, *HIGH_HZ), 1 + np.array(DETUNED)).ravel()
    return np.exp(-2j * np.pi * np.outer(np.arange(WINDOW), hertz) / RATE_HZ).astype(np.complex64)


WAVES = _waves()


class Tones:
    """Of one line. Positions are samples at 8 kHz."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._line = np.zeros(0, np.float32)
        self._run_key, self._run = "", 0
        self._held = ""
        """The key that is down, and was told."""
        self._missed = 0

    def hear(self, position: int, samples: Samples) -> str:
        """Return the keys that became certain with this piece. One that comes late is let go."""
        if self._next is not None and position < self._next:
            return ""
        if position != self._next:
            missing = position - (self._next if self._next is not None else position)
            self._line, self._run = self._line[:0], 0
            self._release(missing // HOP if missing >= WINDOWS_OF_A_PAUSE * HOP else 0)
        self._next = position + len(samples)
        self._line = np.concatenate((self._line, samples))
        pressed = ""
        while len(self._line) >= WINDOW:
            pressed += self._take(_key_in(self._line[:WINDOW]))
            self._line = self._line[HOP:]
        return pressed

    def _take(self, key: str) -> str:
        if key != self._held:
            self._release(1)
        else:
            self._missed = 0
        self._run = self._run + 1 if key == self._run_key else 1
        self._run_key = key
        if not key or key == self._held or self._run < WINDOWS_OF_A_KEY:
            return ""
        self._held, self._missed = key, 0
        return key

    def _release(self, windows: int) -> None:
        """Count windows without the key that is down: one that is gone for a moment is not pressed twice."""
        self._missed += windows
        if self._missed >= WINDOWS_OF_A_PAUSE:
            self._held = ""


def _key_in(window: Samples) -> str:
    """Return the key whose tones this is; empty where it is anything else."""
    energy = float(window @ window)
    if energy < WINDOW * LEAST_LOUDNESS**2:
        return ""
    found = np.abs(window @ WAVES) ** 2
    found = 2 / WINDOW * found.reshape(8, len(DETUNED)).max(axis=1)
    low, high = int(found[:4].argmax()), int(found[4:].argmax())
    low_energy, high_energy = float(found[low]), float(found[4 + high])
    if low_energy + high_energy < LEAST_SHARE * energy:
        return ""
    twist_db = 10 * np.log10((high_energy + 1e-12) / (low_energy + 1e-12))
    return KEYS[low][high] if -LOW_LOUDER_DB <= twist_db <= HIGH_LOUDER_DB else ""
