"""From the model's text tokens, one a frame, to words and when they were said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

END_OF_PADDING = 0
"""Text token before a word begins: the last word, if any, has ended."""
PADDING = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """A word that has been recognised. Seconds count from the first sample that the client sent."""

    text: str
    start_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class EndWord:
    """When the last word ended; comes once the model knows."""

    stop_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """How a checkpoint's text lies against the sound that it was made from."""

    frame_seconds: float
    prefix_frames: int
    """Frames of silence that are to go before the client's sound."""
    delay_seconds: float
    """By how much the text comes after the sound."""

    @classmethod
    def of(cls, stt_config: dict[str, Any], *, frame_seconds: float) -> Timing:
        """Read a checkpoint's `stt_config`.

        Raises:
            KeyError, TypeError, ValueError: it is not of its form.
        """
        prefix_seconds = float(stt_config.get("audio_silence_prefix_seconds", 0.0))
        delay_seconds = float(stt_config["audio_delay_seconds"])
        if not (0 <= prefix_seconds <= 10 and 0 <= delay_seconds <= 10):
            raise ValueError("its times are not between 0 and 10 seconds")
        return cls(frame_seconds, math.ceil(prefix_seconds / frame_seconds - 1e-6), delay_seconds)

    @property
    def delay_frames(self) -> int:
        """After how many more frames a frame has been transcribed."""
        return math.ceil(self.delay_seconds / self.frame_seconds - 1e-6)

    @property
    def silent_frames(self) -> int:
        """How many of the first frames' text belongs to no sound of the client."""
        return self.prefix_frames + math.floor(self.delay_seconds / self.frame_seconds + 1e-6)

    def seconds(self, frames: int) -> float:
        """Return at which second of the client's sound the text after so many frames lies."""
        return round(max(0.0, (frames - self.prefix_frames) * self.frame_seconds - self.delay_seconds), 3)


class Spelling:
    """Puts one stream's text tokens together to words."""

    def __init__(self, timing: Timing, decode: Callable[[list[int]], str]) -> None:
        self._timing = timing
        self._decode = decode
        self._frames = 0
        self._tokens: list[int] = []
        self._starts_at_seconds = 0.0
        self._is_open = False

    def take(self, token: int) -> list[Word | EndWord]:
        """Take the next frame's text token, and return what it completes."""
        self._frames += 1
        if self._frames < self._timing.silent_frames:
            return []
        if token not in (END_OF_PADDING, PADDING):
            self._tokens.append(token)
            return []
        said: list[Word | EndWord] = []
        if self._tokens:
            if text := self._decode(self._tokens).strip():
                said.append(Word(text, self._starts_at_seconds))
                self._is_open = True
            self._tokens = []
        if token == END_OF_PADDING:
            now_seconds = self._timing.seconds(self._frames)
            if self._is_open:
                said.append(EndWord(now_seconds))
                self._is_open = False
            self._starts_at_seconds = now_seconds
        return said
