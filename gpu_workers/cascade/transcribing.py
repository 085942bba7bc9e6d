"""Speech to text as a Pipecat service: at each pause, all that was said since the turn began is transcribed anew.

Whole turns are understood better than pieces, and the result is there before the turn is known to be over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from pipecat.utils.time import time_now_iso8601

from gpu_workers import pcm
from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ, Moonshine

BYTES_PER_SECOND = 2 * SAMPLE_RATE_HZ
KEPT_BEFORE_SPEECH = BYTES_PER_SECOND // 2
LONGEST_TURN = 30 * BYTES_PER_SECOND
"""The model was made for at most half a minute; of a longer turn the end counts."""


class TurnAudio:
    """What was heard since the caller's turn began, and a little before it. 16-bit samples."""

    def __init__(self) -> None:
        self._heard = bytearray()
        self.in_turn = False

    def begin(self) -> None:
        self.in_turn = True

    def end(self) -> None:
        self.in_turn = False
        del self._heard[:-KEPT_BEFORE_SPEECH]

    def add(self, audio: bytes) -> None:
        self._heard += audio
        del self._heard[: -(LONGEST_TURN if self.in_turn else KEPT_BEFORE_SPEECH)]

    def __bytes__(self) -> bytes:
        return bytes(self._heard)


class MoonshineService(STTService):
    def __init__(self, model: Moonshine, threads: Executor) -> None:
        super().__init__(
            sample_rate=SAMPLE_RATE_HZ,
            audio_passthrough=False,
            ttfs_p99_latency=0.5,
            settings=STTSettings(model="moonshine-base-en", language=None),
        )
        self._model = model
        self._threads = threads
        self._heard = TurnAudio()
        self._running: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case VADUserStartedSpeakingFrame():
                self._heard.begin()
            case VADUserStoppedSpeakingFrame():
                await self._stop_transcribing()
                self._running = self.create_task(self._transcribe(bytes(self._heard), pause=frame.id))
            case UserStoppedSpeakingFrame():
                self._heard.end()
            case EndFrame() | CancelFrame():
                await self._stop_transcribing()

    async def process_audio_frame(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        self._heard.add(frame.audio)

    async def _transcribe(self, audio: bytes, *, pause: int) -> None:
        async for frame in self.run_stt(audio):
            frame.metadata["pause"] = pause
            await self.push_frame(frame)

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame, None]:
        loop = asyncio.get_running_loop()
        words = await loop.run_in_executor(self._threads, self._model.transcribe, pcm.to_samples(audio))
        yield TranscriptionFrame(words, "caller", time_now_iso8601(), finalized=True)

    async def _stop_transcribing(self) -> None:
        if self._running is not None and not self._running.done():
            await self.cancel_task(self._running)
        self._running = None
