"""What a brain puts out."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from gpu_workers.cascade.passages import Passage
from gpu_workers.pcm import Samples
from gpu_workers.protocol import ToolRun, Utterance


@dataclasses.dataclass(frozen=True, slots=True)
class Say:
    """A sentence or so, ready to be spoken: numbers and dates are in their spoken form."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Voiced:
    """Sound of a brain that speaks with a voice of its own: the next piece of a passage."""

    passage: Passage
    samples: Samples
    begins_seconds: float
    """Where in the passage it begins."""


@dataclasses.dataclass(frozen=True, slots=True)
class ToolCalled:
    name: str
    ok: bool
    duration_ms: float


@dataclasses.dataclass(frozen=True, slots=True)
class Warned:
    """The turn goes on with less; `code` is for programs, `sentence` for people who run the agent."""

    code: str
    sentence: str


@dataclasses.dataclass(frozen=True, slots=True)
class HangUp:
    """The conversation is over when what was said before this has been heard."""


Part = Say | Voiced | ToolCalled | Warned | HangUp


class Brain(Protocol):
    def greet(self) -> AsyncIterator[Part]:
        """Open the conversation; where there is a history, go on from it instead."""
        ...

    def reply(self, heard: str) -> AsyncIterator[Part]:
        """Answer what the caller said. May be cancelled at any point, when the caller speaks again."""
        ...

    def wrap_up(self) -> AsyncIterator[Part]:
        """Close in words: the call's time is nearly over."""
        ...

    def was_spoken(self, text: str, *, interrupted: bool) -> None:
        """Take note of what the caller really heard of the last reply."""
        ...

    async def close(self) -> None:
        """Let go of connections: the call is over."""
        ...


class FollowingBrain(Brain, Protocol):
    """One that can take over from another."""

    def catch_up(self, conversation: Sequence[Utterance], tools_run: Sequence[ToolRun] | None = None) -> None:
        """Follow what the other has heard and said, and done; None where what was due is known to be done."""
        ...


@runtime_checkable
class VoicedBrain(Brain, Protocol):
    """One that speaks with a voice of its own: nobody else can say the rest of what it was saying."""

    def go_on(self) -> AsyncIterator[Part]:
        """Take up a reply that was broken off for nothing."""
        ...
