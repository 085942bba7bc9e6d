"""Callers who really speak: Ogg Opus as Moshi's client sends it, and one decoder for all that they hear."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sphn

from gpu_workers import protocol
from gpu_workers.pcm import Samples
from gpu_workers.protocol import Kind
from tests.voice.callers import Caller

FRAME_SAMPLES = 960
FRAME_SECONDS = FRAME_SAMPLES / protocol.SAMPLE_RATE_HZ
LOUD = 0.05


class Voice:
    """One stream of a caller's; its header pages come with the first frame."""

    def __init__(self) -> None:
        self._writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
        self._at = 0
        self.sent = 0

    async def speak(self, caller: Caller, *, loud_seconds: float, quiet_seconds: float) -> float:
        """Send a tone and silence as fast as they are spoken; returns when (monotonic seconds) the tone was over."""
        at = np.arange(round(loud_seconds * protocol.SAMPLE_RATE_HZ)) + self._at
        await self.say(caller, (0.3 * np.sin(2 * np.pi * 300 * at / protocol.SAMPLE_RATE_HZ)).astype(np.float32))
        ended = time.monotonic() - FRAME_SECONDS
        await self.say(caller, np.zeros(round(quiet_seconds * protocol.SAMPLE_RATE_HZ), np.float32))
        return ended

    async def say(self, caller: Caller, samples: Samples) -> None:
        """Send whole frames of samples as fast as they are spoken."""
        began = time.monotonic()
        for number in range(len(samples) // FRAME_SAMPLES):
            frame = samples[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES]
            self._at += FRAME_SAMPLES
            self.sent += 1
            await caller.connection.send(protocol.audio(self._writer.append_pcm(frame)))
            await asyncio.sleep(max(0.0, began + (number + 1) * FRAME_SECONDS - time.monotonic()))


class Ear:
    """Decodes what a caller hears with one decoder, as stock clients do."""

    def __init__(self) -> None:
        self._reader = sphn.OpusStreamReader(protocol.SAMPLE_RATE_HZ)
        self.loud_samples = 0

    def hear(self, message: bytes) -> None:
        samples = self._reader.append_bytes(message[1:])
        if len(samples):
            self.loud_samples += int((np.abs(samples) > LOUD).sum())

    async def until(self, caller: Caller, condition: Callable[[], bool]) -> None:
        """Listen until it holds; metadata is kept by the caller."""
        while not condition():
            self.hear(await caller.next_of(Kind.AUDIO))

    async def next_loud(self, caller: Caller, samples: int = 2_000) -> None:
        wanted = self.loud_samples + samples
        await self.until(caller, lambda: self.loud_samples >= wanted)


def metadata_of(caller: Caller, type_: str) -> list[dict[str, Any]]:
    """Return what a caller was told so far of one type."""
    documents = (protocol.read_metadata(message) for message in caller.heard if message[0] == Kind.METADATA)
    return [document for document in documents if document["type"] == type_]


async def told_of(caller: Caller, type_: str) -> dict[str, Any]:
    """Return the last metadata of a type, which may have come already."""
    if told := metadata_of(caller, type_):
        return told[-1]
    return await caller.next_metadata(type_)
