"""Whose turn it is: ends the caller's turn after a silence or when told, and interrupts the agent for the caller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from gpu_workers.cascade.completeness import TURN_SILENCE_SECONDS, silence_that_ends
from gpu_workers.cascade.conversation import CallerTurn, Conversation
from gpu_workers.cascade.frames import CallerTurnFrame, EndOfTurnFrame, KeysFrame, NothingSaidFrame, SpeechPausedFrame

logger = logging.getLogger(__name__)

TRANSCRIPT_TIMEOUT_SECONDS = 5.0
KEY_SECONDS = 2.0
"""After so long without a further key what was keyed in is whole; the hash key says so at once."""
TONE_SECONDS = 1.0
"""What is taken for speech so near to a key is the key's tone."""
MOST_KEYS = 64


class TurnTaking(FrameProcessor):
    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self._conversation = conversation
        self._pause: int | None = None
        self._transcript: asyncio.Future[str] | None = None
        self._in_turn = False
        self._ending: asyncio.Task[None] | None = None
        self._said_end = asyncio.Event()
        """The caller has said that the turn is over: no silence is waited for."""
        self._keys = ""
        self._keying: asyncio.Task[None] | None = None
        self._keyed_at = float("-inf")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case VADUserStartedSpeakingFrame():
                await self._caller_speaks()
            case SpeechPausedFrame():
                await self._keep_turn_open()
                self._pause = frame.id
                self._transcript = asyncio.get_running_loop().create_future()
                self._said_end.clear()
                self._ending = self.create_task(self._end_turn(frame, self._transcript))
            case TranscriptionFrame():
                # A service that does not say for which pause its words are is believed.
                is_of_this_pause = frame.metadata.get("pause", self._pause) == self._pause
                if is_of_this_pause and self._transcript is not None and not self._transcript.done():
                    self._transcript.set_result(frame.text)
            case EndOfTurnFrame():
                self._said_end.set()
            case KeysFrame(keys=keys):
                await self._caller_keys(keys)
            case InputAudioRawFrame():
                pass  # nobody further down listens
            case EndFrame() | CancelFrame():
                await self._keep_turn_open()
                await self._stop_keying()
                await self.push_frame(frame, direction)
            case _:
                await self.push_frame(frame, direction)

    async def _caller_speaks(self) -> None:
        await self._keep_turn_open()
        if not self._in_turn:
            self._in_turn = True
            await self.broadcast_frame(UserStartedSpeakingFrame)
        if self._conversation.agent_has_the_floor:
            await self._conversation.interrupt()  # first of all, silence
            await self.broadcast_interruption()

    async def _caller_keys(self, keys: str) -> None:
        """Take in keys, which go before speech: a number keyed is better than one spoken."""
        self._keyed_at = time.monotonic()
        self._keys = (self._keys + keys)[-MOST_KEYS:]
        await self._stop_keying()
        if self._conversation.agent_has_the_floor:
            await self._conversation.interrupt()
            await self.broadcast_interruption()
        if "#" in keys:
            await self._end_keys()
        else:
            self._keying = self.create_task(self._wait_for_keys())

    async def _wait_for_keys(self) -> None:
        await asyncio.sleep(KEY_SECONDS)
        self._keying = None
        await self._end_keys()

    async def _stop_keying(self) -> None:
        if self._keying is not None and not self._keying.done():
            await self.cancel_task(self._keying)
        self._keying = None

    async def _end_keys(self) -> None:
        keys, self._keys = self._keys, ""
        at = time.monotonic()
        await self.push_frame(
            CallerTurnFrame(
                CallerTurn(
                    words=f"(keyed) {keys}",
                    message=None,
                    speech_ended_at=self._keyed_at,
                    decided_at=at,
                    transcribed_at=at,
                    keys=keys,
                )
            )
        )

    def _are_tones(self, pause: SpeechPausedFrame) -> bool:
        return bool(self._keys) or abs(pause.speech_ended_at - self._keyed_at) < TONE_SECONDS

    async def _keep_turn_open(self) -> None:
        if self._ending is not None and not self._ending.done():
            await self.cancel_task(self._ending)
        self._ending = self._transcript = None

    async def _end_turn(self, pause: SpeechPausedFrame, transcript: asyncio.Future[str]) -> None:
        """End the turn when the silence is long enough for what was said; cancelled when the caller speaks on."""
        await self._wait_for_silence(pause.speech_ended_at + TURN_SILENCE_SECONDS)
        waiting_since = time.monotonic()  # not at all, mostly: transcription began with the pause
        try:
            words = await asyncio.wait_for(transcript, timeout=TRANSCRIPT_TIMEOUT_SECONDS)
        except TimeoutError:
            logger.warning("no transcript came in time")
            words = ""
        waited_seconds = time.monotonic() - waiting_since
        await self._wait_for_silence(pause.speech_ended_at + silence_that_ends(words))
        transcribed_at = time.monotonic()
        # From here on the turn is over, whatever is said next.
        self._ending = None
        self._in_turn = False
        await self.broadcast_frame(UserStoppedSpeakingFrame)
        if self._are_tones(pause):
            words = ""
        if not words.strip() and not self._keys:  # while keys are pressed, nobody is spoken to
            await self.push_frame(NothingSaidFrame())
        if not words.strip():
            return
        await self.push_frame(
            CallerTurnFrame(
                CallerTurn(
                    words=words,
                    message=pause.message,
                    speech_ended_at=pause.speech_ended_at,
                    decided_at=transcribed_at - waited_seconds,
                    transcribed_at=transcribed_at,
                )
            )
        )

    async def _wait_for_silence(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._said_end.wait()
