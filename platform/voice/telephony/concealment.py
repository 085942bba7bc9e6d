"""What is heard in the place of sound that was lost: the last period of the voice again, fading within 60 ms.

Source: the idea of ITU-T G.711 Appendix I, without its delay.
"""

from __future__ import annotations

import numpy as np

from voice.telephony.g711 import FRAME_SAMPLES, Samples

SHORTEST_PERIOD, LONGEST_PERIOD = 40, 120
"""Of a voice, 200 to 66 Hz, in samples."""
KEPT = LONGEST_PERIOD + FRAME_SAMPLES
FADES_AFTER, FADES_WITHIN = 80, 400
"""Samples made up at full strength, and until silence from there."""
JOINED = 40
"""Samples over which what is made up passes into what was heard."""


class Concealment:
    def __init__(self) -> None:
        self._heard = np.zeros(KEPT, np.float32)
        self._period = SHORTEST_PERIOD
        self._made_up = 0

    def hear(self, frame: Samples) -> Samples:
        """Take note of what came, and return it, joined to what was made up before it."""
        if self._made_up:
            joined = min(JOINED, len(frame))
            rising = np.linspace(0, 1, joined, dtype=np.float32)
            frame = frame.copy()
            frame[:joined] = rising * frame[:joined] + (1 - rising) * self._continued(joined)
            self._made_up = 0
        self._heard = np.concatenate((self._heard, frame))[-KEPT:]
        return frame

    def make_up(self) -> Samples:
        """Return 20 ms in the place of what did not come."""
        if not self._made_up:
            self._period = self._find_period()
        made_up = self._continued(FRAME_SAMPLES)
        self._made_up += FRAME_SAMPLES
        return made_up

    def _continued(self, count: int) -> Samples:
        at = self._made_up + np.arange(count)
        gain = np.clip(1 - (at - FADES_AFTER) / FADES_WITHIN, 0, 1)
        return (self._heard[len(self._heard) - self._period + at % self._period] * gain).astype(np.float32)

    def _find_period(self) -> int:
        """Return how far back the end of what was heard is most like itself."""
        end = self._heard[-FRAME_SAMPLES:]
        earlier = np.lib.stride_tricks.sliding_window_view(self._heard, FRAME_SAMPLES)[::-1]
        earlier = earlier[SHORTEST_PERIOD : LONGEST_PERIOD + 1]
        likeness = earlier @ end / np.sqrt((earlier**2).sum(axis=1) + 1e-6)
        return SHORTEST_PERIOD + int(np.argmax(likeness))
