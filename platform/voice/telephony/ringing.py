"""What a caller hears until the agent can talk: the ringing tone of North America (440 and 480 Hz, 2 s of 6)."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, RATE_HZ
from voice.telephony.legs import Leg

BEGINS_AFTER_SECONDS = 0.8
"""An agent who is there at once is not rung for."""
ON_SECONDS, PERIOD_SECONDS = 2.0, 6.0
LOUDNESS = 0.06
AHEAD_SECONDS = 0.1


async def ring(leg: Leg) -> None:
    """Play it until cancelled."""
    await asyncio.sleep(BEGINS_AFTER_SECONDS)
    began, played_seconds = time.monotonic(), 0.0
    while True:
        at = np.arange(FRAME_SAMPLES) / RATE_HZ + played_seconds
        sounds = played_seconds % PERIOD_SECONDS < ON_SECONDS
        tone = np.sin(2 * np.pi * 440 * at) + np.sin(2 * np.pi * 480 * at)
        await leg.play((LOUDNESS * sounds * tone).astype(np.float32))
        played_seconds += FRAME_SECONDS
        await asyncio.sleep(max(0.0, began + played_seconds - AHEAD_SECONDS - time.monotonic()))
