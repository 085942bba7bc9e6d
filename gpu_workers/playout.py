"""The agent's voice on its way to the caller: cut into frames, encoded, and sent hardly faster than it is heard.

Little is sent ahead of time, so that a caller who interrupts hears silence at once. No sockets or engines here.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

import numpy as np
import sphn

from gpu_workers import protocol
from gpu_workers.pcm import Samples

FRAME_SAMPLES = 960
FRAME_SECONDS = FRAME_SAMPLES / protocol.SAMPLE_RATE_HZ
LEAD_SECONDS = 0.12
"""How far sending may run ahead of hearing: bridges the network's hiccups, and is what barge-in cannot take back."""

Reached = Callable[[int], Awaitable[None]]
"""Called once all audio before a mark was sent, with the index of the last audio message sent (-1: none yet)."""


class Playout:
    """A queue of samples and marks, sent by `run` in real time."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], codec_threads: Executor) -> None:
        self._send = send
        self._codec_threads = codec_threads
        self._writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
        self._queue: collections.deque[Samples | Reached] = collections.deque()
        self._waiting = asyncio.Event()
        self._heard_until = 0.0
        self.messages_sent = 0

    @property
    def unheard_seconds(self) -> float:
        """How much of what was sent the caller cannot have heard yet."""
        return max(0.0, self._heard_until - time.monotonic())

    def put(self, samples: Samples) -> None:
        """Queue samples of 24 kHz mono, -1 to 1."""
        if len(samples):
            self._queue.append(samples)
            self._waiting.set()

    def mark(self, reached: Reached) -> None:
        """Have `reached` called when all samples queued before were sent."""
        self._queue.append(reached)
        self._waiting.set()

    def stop(self) -> None:
        """Forget all samples and marks that were not sent."""
        self._queue.clear()

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await self._waiting.wait()
            while self._queue:
                first = self._queue[0]
                if not isinstance(first, np.ndarray):
                    self._queue.popleft()
                    await first(self.messages_sent - 1)
                    continue
                ahead_seconds = self._heard_until - time.monotonic() - LEAD_SECONDS
                if ahead_seconds > 0:
                    await asyncio.sleep(ahead_seconds)
                    continue  # meanwhile the queue may have been stopped
                samples, marks = self._take_frame()
                await self._send_frame(samples)
                for reached in marks:
                    await reached(self.messages_sent - 1)
            self._waiting.clear()

    def _take_frame(self) -> tuple[Samples, list[Reached]]:
        """Take one frame off the queue, filled with silence where the queue ends, and the marks that lie in it."""
        parts: list[Samples] = []
        marks: list[Reached] = []
        missing = FRAME_SAMPLES
        while self._queue and missing:
            item = self._queue.popleft()
            if not isinstance(item, np.ndarray):
                marks.append(item)
                continue
            parts.append(item[:missing])
            if len(item) > missing:
                self._queue.appendleft(item[missing:])
            missing -= len(parts[-1])
        return np.concatenate([*parts, np.zeros(missing, np.float32)]), marks

    async def _send_frame(self, samples: Samples) -> None:
        # Encoding takes about 1 ms a frame, too much for the event loop of many sessions.
        ogg_opus = await asyncio.get_running_loop().run_in_executor(
            self._codec_threads, self._writer.append_pcm, samples.astype(np.float32, copy=False)
        )
        await self._send(protocol.audio(ogg_opus))
        self.messages_sent += 1
        self._heard_until = max(self._heard_until, time.monotonic()) + FRAME_SECONDS
