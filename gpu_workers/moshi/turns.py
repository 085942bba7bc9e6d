"""Turns in a conversation that has none: when the caller stopped speaking, and when the agent began to answer.

Moshi listens and speaks all the time. What is reported of it is found by listening to both sides.
"""

from __future__ import annotations

import collections

import numpy as np
import onnxruntime
import soxr

from gpu_workers import protocol
from gpu_workers.line import Heard, Line
from gpu_workers.moshi.batch import Spoken
from gpu_workers.speech_detector import SAMPLE_RATE_HZ, Change, SpeechDetector

LOUD = 0.02
"""A frame of the agent whose loudest sample is above this is not silence."""
SILENT_FRAMES = 6
"""So many silent frames (0.5 s) end an utterance of the agent."""
TOLD_FRAMES = 62
"""After so many (5 s) of an utterance that goes on, what was said is reported: who hangs up then loses no more."""
KEPT_MESSAGES = 256
HALF_FRAME = 960


class Turns:
    """Follows one conversation, and reports its turns and what the agent said on the line."""

    def __init__(self, line: Line, model: onnxruntime.InferenceSession) -> None:
        self._line = line
        self._detector = SpeechDetector(model)
        self._resampler = soxr.ResampleStream(protocol.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, 1, dtype="float32", quality="LQ")
        self._messages: collections.deque[tuple[int, int]] = collections.deque(maxlen=KEPT_MESSAGES)
        self._resampled = 0
        self._ended_message: int | None = None
        """In which message the caller's speech ended that the agent has not answered yet."""
        self._index = -1
        self._silent_frames = SILENT_FRAMES
        self._words: list[str] = []
        self._untold_frames = 0

    def heard(self, event: Heard) -> None:
        """Listen to what the caller sent."""
        samples = self._resampler.resample_chunk(event.samples)
        self._resampled += len(samples)
        self._messages.append((self._resampled, event.message))
        for change in self._detector.feed(samples):
            if change is Change.PAUSED:
                ended = self._detector.speech_ended
                self._ended_message = next((message for end, message in self._messages if end >= ended), event.message)
            else:
                self._ended_message = None

    async def speak(self, spoken: Spoken) -> None:
        """Send a frame of what the agent says, and report the turn that it begins or ends."""
        is_loud = float(np.abs(spoken.samples).max()) > LOUD
        begins = (
            is_loud and self._silent_frames >= SILENT_FRAMES and (self._index < 0 or self._ended_message is not None)
        )
        self._silent_frames = 0 if is_loud else self._silent_frames + 1
        self._untold_frames += 1
        if self._silent_frames == SILENT_FRAMES or begins or self._untold_frames == TOLD_FRAMES:
            await self.finish()
        if begins:
            self._begin(spoken)
        else:
            self._line.speak(spoken.samples)
        if spoken.text:
            self._words.append(spoken.text)
            await self._line.send_text(spoken.text)

    async def finish(self) -> None:
        """Report what the agent has said so far, if anything."""
        words = "".join(self._words).strip()
        self._words.clear()
        self._untold_frames = 0
        if words:
            await self._line.send_metadata(protocol.transcript(turn=max(0, self._index), role="agent", words=words))

    def _begin(self, spoken: Spoken) -> None:
        self._index += 1
        index, ended_message = self._index, self._ended_message if self._index else None
        self._ended_message = None

        async def report(message: int) -> None:
            await self._line.send_metadata(
                protocol.turn(index=index, speech_ended_message=ended_message, reply_message=message, parts_ms={})
            )

        # A frame is two messages: the first carries the beginning.
        self._line.speak(spoken.samples[:HALF_FRAME])
        self._line.when_sent(report)
        self._line.speak(spoken.samples[HALF_FRAME:])
