"""Deepgram in place of the cascade's own ears: Pipecat's service for it, with the tenant's key.

All sound is sent as it comes. At each pause the service is asked to say what it has; what it does not say in time, the
cascade's own ears have heard, too.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
from collections.abc import AsyncGenerator
from typing import Any

from deepgram.listen.v1.types import ListenV1Results
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
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601

from gpu_workers import protocol
from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ
from gpu_workers.cascade.transcribing import MoonshineService, TurnAudio
from gpu_workers.line import Tell
from gpu_workers.protocol import Service

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
FINALIZE_SECONDS = 1.5
BYTES_PER_SECOND = 2 * SAMPLE_RATE_HZ


class DeepgramEars(DeepgramSTTService):
    """At each pause, one transcription of all that was said since the turn began."""

    def __init__(self, service: Service, *, instead: MoonshineService, tell: Tell) -> None:
        super().__init__(
            api_key=service.key,
            base_url=os.environ.get("WORKER_DEEPGRAM_URL") or "https://api.deepgram.com",
            sample_rate=SAMPLE_RATE_HZ,
            settings=DeepgramSTTService.Settings(
                # It is told when to say what it has: by itself it would, at each silence between two words.
                model="nova-3-general",
                language=Language.EN,
                interim_results=False,
                endpointing=False,
                smart_format=True,
            ),
            audio_passthrough=False,
        )
        self._instead, self._tell = instead, tell
        self._has_warned = False
        self._heard = TurnAudio()
        self._words: list[str] = []
        self._finalizing: collections.deque[asyncio.Event] = collections.deque()
        self._running: asyncio.Task[None] | None = None
        self._counted: Any = None
        self._sent_seconds = 0.0
        """Of sound, on the connection that is counted: the service tells its words by their place in it."""
        self._turn_began_seconds = 0.0
        self._has_gap = False
        """A part of the turn went to a connection that was lost, or to none."""

    # --- what is heard ----------------------------------------------------------------------------------------------
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            asked = asyncio.Event()
            self._finalizing.append(asked)  # before the question is sent
            await self._stop_waiting()
            self._running = self.create_task(self._transcribe(frame.id, asked))
        await super().process_frame(frame, direction)
        match frame:
            case VADUserStartedSpeakingFrame():
                self._heard.begin()
                self._has_gap = self._has_gap or self._connection is None
            case UserStoppedSpeakingFrame():
                self._heard.end()
                self._words.clear()
                self._finalizing.clear()
                self._has_gap = False
                self._turn_began_seconds = self._sent_seconds
            case EndFrame() | CancelFrame():
                await self._stop_waiting()

    async def process_audio_frame(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        self._heard.add(frame.audio)
        await super().process_audio_frame(frame, direction)

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        if self._connection is not self._counted:
            self._counted, self._sent_seconds, self._turn_began_seconds = self._connection, 0.0, 0.0
            self._has_gap = self._heard.in_turn
        self._sent_seconds += len(audio) / BYTES_PER_SECOND
        async for frame in super().run_stt(audio):
            yield frame

    # --- what is understood -----------------------------------------------------------------------------------------
    async def _on_message(self, message: Any) -> None:
        if not isinstance(message, ListenV1Results) or not message.is_final:
            return
        if message.start + message.duration <= self._turn_began_seconds:
            return  # late, and of a turn that is over
        if message.channel.alternatives and (words := message.channel.alternatives[0].transcript):
            self._words.append(words)
        if message.from_finalize and self._finalizing:
            self._finalizing.popleft().set()

    async def _transcribe(self, pause: int, asked: asyncio.Event) -> None:
        """Push what was said up to a pause."""
        has_answered = False
        if self._connection is not None and not self._has_gap:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), FINALIZE_SECONDS)
                has_answered = True
        if has_answered:
            words = TranscriptionFrame(" ".join(self._words), "caller", time_now_iso8601(), finalized=True)
            words.metadata["pause"] = pause
            await self.push_frame(words)
            return
        await self._warn()
        async for frame in self._instead.run_stt(bytes(self._heard)):
            frame.metadata["pause"] = pause
            await self.push_frame(frame)

    async def _stop_waiting(self) -> None:
        if self._running is not None and not self._running.done():
            await self.cancel_task(self._running)
        self._running = None

    # --- what goes wrong --------------------------------------------------------------------------------------------
    async def _connect(self) -> None:
        with contextlib.suppress(TimeoutError):  # it goes on trying; until then there are the cascade's own ears
            async with asyncio.timeout(CONNECT_SECONDS):
                await super()._connect()

    async def _disconnect(self) -> None:
        with contextlib.suppress(Exception):  # a connection that is lost already
            await super()._disconnect()
        await super()._disconnect()

    async def push_error(self, *_: Any, **__: Any) -> None:
        """Take no error for one of the pipeline's: it has ears of its own."""
        # Not in its own words: a provider may repeat what was sent to it.
        logger.warning("a managed transcription was lost")

    async def _warn(self) -> None:
        """Tell once that this process's own ears are used."""
        if not self._has_warned:
            self._has_warned = True
            sentence = "Its own ears are used: deepgram refused, failed or was late."
            await self._tell(protocol.warning(code="stt", sentence=sentence))
