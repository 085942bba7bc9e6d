"""The brain without a language model: a dialogue decides, and its tools are run.

A turn that is cut off by the caller leaves nothing half done: the dialogue has changed before anything is said, and
what a tool does meanwhile is told in the next turn.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from gpu_workers.cascade.brain.dialogue import Answer, Dialogue, Due
from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.speech import HangUp, Part, Say, ToolCalled
from gpu_workers.cascade.brain.tool_client import ToolClient, ToolReply
from gpu_workers.protocol import Start, ToolRun, Utterance


@dataclasses.dataclass(frozen=True, slots=True)
class _Running:
    due: Due
    reply: asyncio.Task[ToolReply]


class PolicyBrain:
    """See gpu_workers.cascade.brain.speech.Brain."""

    def __init__(
        self, start: Start, tools: ToolClient, now: Callable[[], datetime.datetime], intents: IntentModel
    ) -> None:
        """`now`: the business's wall clock, without a zone."""
        self._dialogue = Dialogue(start.agent, str(start.business.get("name") or "us"), now, intents)
        self._start = start
        self._tools = tools
        self._turn = 0
        self._running: _Running | None = None

    @property
    def has_something_to_tell(self) -> bool:
        """Whether a tool was at work when the caller cut in."""
        return self._running is not None

    async def greet(self) -> AsyncIterator[Part]:
        if not self._start.history:
            for part in _parts(self._dialogue.greet()):
                yield part
            return
        self.catch_up(self._start.history, self._start.tools_run)
        answer = self._dialogue.come_back()
        for part in _parts(answer):
            yield part
        if answer.due is not None:
            async for part in self._run(answer.due):
                yield part

    async def reply(self, heard: str) -> AsyncIterator[Part]:
        self._turn += 1
        if self._running is not None:
            async for part in self._finish(self._running):
                yield part
        answer = self._dialogue.hear(heard)
        if answer.due is not None:
            async for part in self._run(answer.due):
                yield part
        for part in _parts(answer):
            yield part

    async def wrap_up(self) -> AsyncIterator[Part]:
        for part in _parts(self._dialogue.wrap_up()):
            yield part

    def was_spoken(self, text: str, *, interrupted: bool) -> None:
        if text and not interrupted:
            self._dialogue.was_told(text)

    async def close(self) -> None:
        """Nothing is held."""

    def catch_up(self, conversation: Sequence[Utterance], tools_run: Sequence[ToolRun] | None = None) -> None:
        """Follow what another brain has said, or this one before the call was lost; no tool runs again."""
        undone = list(tools_run or ())

        def was_run(tool: str) -> bool:
            run = next((run for run in undone if run.name == tool), None)
            if run is not None:
                undone.remove(run)
            return tools_run is None or run is not None

        for said in conversation:
            if said.role == "caller":
                self._turn += 1
                self._dialogue.follow(said.text, was_run)
            else:
                self._dialogue.was_told(said.text)

    async def _run(self, due: Due) -> AsyncIterator[Part]:
        call = self._tools.call(due.tool, due.arguments, self._turn)
        if due.is_look_up:
            outcome = await call
            for part in self._tell(due, outcome):
                yield part
            return
        # A task of its own: a caller who speaks now must not leave a booking made and never told.
        self._running = _Running(due, asyncio.create_task(call, name=f"tool {due.tool}"))
        async for part in self._finish(self._running):
            yield part

    async def _finish(self, running: _Running) -> AsyncIterator[Part]:
        outcome = await asyncio.shield(running.reply)
        self._running = None
        for part in self._tell(running.due, outcome):
            yield part

    def _tell(self, due: Due, outcome: ToolReply) -> Iterator[Part]:
        answer = self._dialogue.hear_from_tool(due, outcome)
        yield ToolCalled(due.tool, outcome.ok, outcome.duration_ms)
        yield from _parts(answer)


def _parts(answer: Answer) -> Iterator[Part]:
    for sentence in answer.sentences:
        yield Say(sentence)
    if answer.hangs_up:
        yield HangUp()
