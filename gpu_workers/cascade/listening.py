"""First in the pipeline: the caller's sound at 16 kHz, and when speech starts and pauses."""

from __future__ import annotations

import asyncio
import bisect
import time

import numpy as np
import onnxruntime
import soxr
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    StartFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from gpu_workers import pcm, protocol
from gpu_workers.cascade.frames import CallerAudioFrame, EndOfTurnFrame, SpeechPausedFrame
from gpu_workers.speech_detector import SAMPLE_RATE_HZ, Change, SpeechDetector

MISSING_AFTER_SECONDS = 0.3
"""A client that sends nothing for so long (it saves bandwidth, or its file has ended) is heard as silence."""
FILL_SECONDS = 0.1
KEPT_ARRIVALS = 1500


class Arrivals:
    """Which message carried which samples."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._messages: list[tuple[int, float]] = []

    def add(self, *, end: int, message: int, arrived_at: float) -> None:
        self._ends.append(end)
        self._messages.append((message, arrived_at))
        if len(self._ends) > 2 * KEPT_ARRIVALS:
            del self._ends[:KEPT_ARRIVALS], self._messages[:KEPT_ARRIVALS]

    def find(self, position: int) -> tuple[int | None, float]:
        """Return the index and the arrival time of the message that carried the sample before `position`."""
        at = bisect.bisect_left(self._ends, position)
        if not self._ends:
            return None, time.monotonic()
        return self._messages[min(at, len(self._ends) - 1)]


class Listening(FrameProcessor):
    def __init__(self, model: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self._detector = SpeechDetector(model)
        self._arrivals = Arrivals()
        # Low quality delays least and costs no word in transcription.
        self._resampler = soxr.ResampleStream(
            protocol.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, num_channels=1, dtype="float32", quality="LQ"
        )
        self._position = 0
        self._last_arrival_at = time.monotonic()
        self._filler: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, CallerAudioFrame):
            self._last_arrival_at = time.monotonic()
            samples = self._resampler.resample_chunk(pcm.to_samples(frame.audio))
            await self._hear(samples, frame.message, frame.arrived_at)
            return
        if isinstance(frame, StartFrame):
            await self.push_frame(frame, direction)
            self._filler = self.create_task(self._fill_silence())
            return
        if isinstance(frame, (EndFrame, CancelFrame)) and self._filler is not None:
            await self.cancel_task(self._filler)
            self._filler = None
        if isinstance(frame, EndOfTurnFrame) and self._detector.pause():
            await self._push_pause()
        await self.push_frame(frame, direction)

    async def _hear(self, samples: pcm.Samples, message: int | None = None, arrived_at: float = 0.0) -> None:
        self._position += len(samples)
        if message is not None:
            self._arrivals.add(end=self._position, message=message, arrived_at=arrived_at)
        changes = self._detector.feed(samples)
        await self.push_frame(
            InputAudioRawFrame(audio=pcm.to_bytes(samples), sample_rate=SAMPLE_RATE_HZ, num_channels=1)
        )
        for change in changes:
            if change is Change.STARTED:
                await self.push_frame(VADUserStartedSpeakingFrame())
            else:
                await self._push_pause()

    async def _push_pause(self) -> None:
        ended_message, speech_ended_at = self._arrivals.find(self._detector.speech_ended)
        await self.push_frame(SpeechPausedFrame(message=ended_message, speech_ended_at=speech_ended_at))

    async def _fill_silence(self) -> None:
        while True:
            await asyncio.sleep(FILL_SECONDS)
            if self._detector.speaking and time.monotonic() - self._last_arrival_at > MISSING_AFTER_SECONDS:
                await self._hear(np.zeros(int(FILL_SECONDS * SAMPLE_RATE_HZ), np.float32))
