"""Words that were spoken before, played to a caller."""

from __future__ import annotations

import asyncio
import time

from voice.telephony.g711 import FRAME_SECONDS
from voice.telephony.legs import Leg
from voice.telephony.transcoding import FromEngine

AHEAD_SECONDS = 0.1
LONGEST_SECONDS = 60.0
"""A message of 500 letters takes some 35 s."""


async def say(leg: Leg, sound: bytes) -> None:
    """Play a clip, Ogg Opus as engines send it, at the pace of hearing; return when it was heard, or the caller left.

    The leg has to be listened to meanwhile.
    """
    began, played_seconds = time.monotonic(), 0.0
    for frame in FromEngine().decode(sound):
        await leg.play(frame)
        played_seconds += FRAME_SECONDS
        await asyncio.sleep(max(0.0, began + played_seconds - AHEAD_SECONDS - time.monotonic()))
    await leg.wait_until_played()


async def say_only(leg: Leg, sound: bytes) -> None:
    """Hold an answered leg that has no agent: its caller hears a clip, and is hung up on."""
    saying = asyncio.create_task(say(leg, sound), name="say")
    listening = asyncio.create_task(_listen(leg), name="listen")
    try:
        await asyncio.wait({saying, listening}, timeout=LONGEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if saying.done():
            saying.result()
    finally:
        for task in (saying, listening):
            task.cancel()
        await asyncio.gather(saying, listening, return_exceptions=True)
        await leg.hang_up()


async def _listen(leg: Leg) -> None:
    async for _ in leg:
        pass
