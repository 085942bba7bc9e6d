"""Conversations with a brain, typed instead of spoken, and a tool server in memory that remembers what it was asked."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncIterator
from typing import Any

from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.speech import Brain, HangUp, Part, Say, ToolCalled
from gpu_workers.cascade.brain.tool_client import ToolReply
from gpu_workers.protocol import Start, ToolRun, Utterance

MONDAY = datetime.datetime(2026, 3, 2, 9, 0)


@dataclasses.dataclass
class ToolServer:
    """Agrees to everything, unless replies are laid out beforehand. While `gate` is closed, no tool comes to an end."""

    replies: list[ToolReply] = dataclasses.field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    gate: asyncio.Event | None = None
    finished: int = 0

    async def call(self, name: str, arguments: dict[str, Any], turn: int) -> ToolReply:
        self.calls.append((name, arguments))
        if self.gate is not None:
            await self.gate.wait()
        self.finished += 1
        if self.replies:
            return self.replies.pop(0)
        known = {"service": "appointment", "starts_at": "2026-03-05T15:00"}
        return ToolReply(True, {**known, **arguments}, 1.0)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


def refusal(sentence: str, *, slot: str = "starts_at", alternatives: tuple[str, ...] = ()) -> ToolReply:
    return ToolReply(False, {"alternatives": list(alternatives)}, 1.0, code="slot_taken", sentence=sentence, slot=slot)


def policy(
    model: IntentModel,
    agent: dict[str, Any],
    tools: ToolServer,
    *,
    now: datetime.datetime = MONDAY,
    history: tuple[Utterance, ...] = (),
    tools_run: tuple[ToolRun, ...] = (),
) -> PolicyBrain:
    start = Start("a call", agent=agent, business={"name": "Acme"}, history=history, tools_run=tools_run)
    return PolicyBrain(start, tools, lambda: now, model)


async def collect(parts: AsyncIterator[Part], brain: Brain) -> list[Part]:
    """Return what a brain puts out, and let it know that the caller heard it."""
    collected = [part async for part in parts]
    brain.was_spoken(said(collected), interrupted=False)
    return collected


def said(parts: list[Part]) -> str:
    return " ".join(part.text for part in parts if isinstance(part, Say))


def hung_up(parts: list[Part]) -> bool:
    return any(isinstance(part, HangUp) for part in parts)


def tools_called(parts: list[Part]) -> list[str]:
    return [part.name for part in parts if isinstance(part, ToolCalled)]


async def talk(brain: Brain, *utterances: str) -> str:
    """Say one thing after the other; return the answer to the last."""
    answer = ""
    for heard in utterances:
        answer = said(await collect(brain.reply(heard), brain))
    return answer
