"""What a brain puts out."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Say:
    """A sentence or so, ready to be spoken: numbers and dates are in their spoken form."""

    text: str


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


Part = Say | ToolCalled | Warned | HangUp


class Brain(Protocol):
    def greet(self) -> AsyncIterator[Part]:
        """Open the conversation; where there is a history, go on from it instead."""
        ...

    def reply(self, heard: str) -> AsyncIterator[Part]:
        """Answer what the caller said. May be cancelled at any point, when the caller speaks again."""
        ...

    def reply_to_keys(self, keys: str) -> AsyncIterator[Part]:
        """Answer keys of a telephone that the caller pressed. May be cancelled like `reply`."""
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
