"""A service that hears, thinks and speaks, in the place of brain and voice; with a brain to fall back on.

What is said by the book, greeting and goodbye, it is given word for word. When the service is lost, the brain catches
up with the conversation and holds it to its end, with the cascade's own voice.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from pipecat.services.openai.realtime import events

from gpu_workers import pcm, protocol
from gpu_workers.cascade.brain.instructions import goodbye_of, instructions_of
from gpu_workers.cascade.brain.model_tools import END_CALL, MAX_ROUNDS, ModelTools, answer_for_model
from gpu_workers.cascade.brain.speech import FollowingBrain, HangUp, Part, Say, ToolCalled, Voiced, Warned
from gpu_workers.cascade.brain.tool_client import ToolClient
from gpu_workers.cascade.brain.wording import LOST_THREAD
from gpu_workers.cascade.realtime.connection import RealtimeConnection, ServiceLost
from gpu_workers.protocol import Service, Start, ToolRun, Utterance

logger = logging.getLogger(__name__)

WORD_FOR_WORD = "Say exactly this to the caller, word for word, and nothing else: {sentence}"
GO_ON = "A noise has cut you off: nobody spoke. Go on where you broke off."


class RealtimeBrain:
    """See gpu_workers.cascade.brain.speech.VoicedBrain."""

    def __init__(
        self,
        start: Start,
        service: Service,
        tools: ToolClient,
        fallback: FollowingBrain,
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._start, self._now = start, now
        self._tools = ModelTools(start, tools)
        self._fallback = fallback
        self.connection = RealtimeConnection(
            key=service.key,
            instructions=_instructions(start, now()),
            voice=str(start.agent.get("voice") or ""),
            model=(start.agent.get("realtime") or {}).get("model"),
            tools=self._tools.declared,
        )
        self._turn = sum(said.role == "caller" for said in start.history)
        self._said: list[Utterance] = []
        """What was said since the fallback last knew where the conversation was."""
        self._tools_run: list[ToolRun] = []
        """What was done since then."""
        self._running: asyncio.Task[list[ToolCalled]] | None = None
        """Tools that are at work."""
        self._has_warned = self._has_handed_over = False

    async def greet(self) -> AsyncIterator[Part]:
        async for part in self._recite([part async for part in self._fallback.greet()]):
            yield part

    async def wrap_up(self) -> AsyncIterator[Part]:
        async for part in self._recite([part async for part in self._fallback.wrap_up()]):
            yield part

    async def reply(self, heard: str) -> AsyncIterator[Part]:
        if self._has_handed_over:
            async for part in self._fallback.reply(heard):
                yield part
            return
        self._turn += 1
        self._said.append(Utterance("caller", heard))
        spoke = acted = False
        try:
            await self.connection.end_turn(heard)
            async with contextlib.aclosing(self._respond()) as parts:
                async for part in parts:
                    spoke = spoke or isinstance(part, Voiced | HangUp)
                    acted = acted or isinstance(part, ToolCalled)
                    yield part
        except ServiceLost as problem:
            for warning in self._warnings(problem):
                yield warning
            if not (spoke or acted):
                async for part in self._hand_over(heard):
                    yield part
                return
            # The fallback would run a tool a second time, and say again what was heard.
            spoke = False
        if not spoke:
            yield Say(LOST_THREAD)

    async def go_on(self) -> AsyncIterator[Part]:
        """Take up what was broken off for nothing."""
        try:
            await self.connection.tell(GO_ON)
            async with contextlib.aclosing(self._respond()) as parts:
                async for part in parts:
                    yield part
        except ServiceLost as problem:
            for warning in self._warnings(problem):
                yield warning
            yield Say(LOST_THREAD)

    def was_spoken(self, text: str, *, interrupted: bool) -> None:
        if self._has_handed_over:
            self._fallback.was_spoken(text, interrupted=interrupted)
        elif text:
            self._said.append(Utterance("agent", f"{text} …" if interrupted else text))

    async def close(self) -> None:
        await self._fallback.close()

    async def _hand_over(self, heard: str) -> AsyncIterator[Part]:
        """Have the fallback answer what was said last, and all that is said after it."""
        self._has_handed_over = True
        self._fallback.catch_up(self._said[:-1], self._tools_run)
        async for part in self._fallback.reply(heard):
            yield part

    async def _recite(self, parts: list[Part]) -> AsyncIterator[Part]:
        """Have the service say sentences of the fallback's."""
        spoke = False
        sentence = " ".join(part.text for part in parts if isinstance(part, Say))
        try:
            await self.connection.tell(WORD_FOR_WORD.format(sentence=sentence))
            async for said in self.connection.respond(may_call=False):
                if (voiced := self._voiced(said)) is not None:
                    spoke = True
                    yield voiced
        except ServiceLost as problem:
            for warning in self._warnings(problem):
                yield warning
        for part in parts:
            if not (spoke and isinstance(part, Say)):
                yield part

    async def _respond(self) -> AsyncGenerator[Part]:
        """Let the service speak and call tools until it has said its piece.

        Raises:
            ServiceLost
        """
        spoke = False
        if self._running is not None:
            # The caller cut in while tools were at work: the service is to know what came of them.
            for called in await self._finish_calls(self._running):
                yield called
        for rounds_left in range(MAX_ROUNDS, -1, -1):
            calls: list[events.ConversationItem] = []
            async for said in self.connection.respond(may_call=rounds_left > 0):
                if (voiced := self._voiced(said)) is not None:
                    spoke = True
                    yield voiced
                if isinstance(said, events.ResponseDone):
                    calls = [item for item in said.response.output or () if item.type == "function_call"]
            deeds = [call for call in calls if call.name != END_CALL]
            if deeds and rounds_left > 0:
                # Shielded: a caller who speaks now must not leave a booking made that the service knows nothing of.
                self._running = asyncio.create_task(self._run(deeds), name="tools")
                for called in await self._finish_calls(self._running):
                    yield called
            if len(deeds) < len(calls):
                if not spoke:
                    async for part in self._recite([Say(goodbye_of(self._start, self._now()))]):
                        yield part
                yield HangUp()
                return
            if not deeds or rounds_left == 0:
                return

    def _voiced(self, said: events.ServerEvent) -> Voiced | None:
        """Take in a piece of what the service says; return its sound, if it is some."""
        match said:
            case events.ResponseAudioTranscriptDelta():
                self.connection.passage_of(said.item_id).add_words(said.delta)
            case events.ResponseAudioDelta():
                passage = self.connection.passage_of(said.item_id)
                samples = pcm.to_samples(base64.b64decode(said.delta))
                begins_seconds = passage.given_seconds
                passage.add_sound(len(samples) / protocol.SAMPLE_RATE_HZ)
                return Voiced(passage, samples, begins_seconds)
            case events.ResponseDone() if said.response.status in ("completed", "incomplete"):
                for item in said.response.output or ():
                    if item.type == "message":
                        self.connection.passage_of(item.id).end()
        return None

    async def _run(self, calls: list[events.ConversationItem]) -> list[ToolCalled]:
        """Run tools, and tell the service what came of each."""
        called = []
        for call in calls:
            name = call.name or ""
            outcome = await self._tools.run(name, call.arguments or "", self._turn)
            await self.connection.answer_call(call.call_id or "", answer_for_model(outcome))
            called.append(ToolCalled(name, outcome.ok, outcome.duration_ms))
            self._tools_run.append(ToolRun(name, outcome.ok))
        return called

    async def _finish_calls(self, running: asyncio.Task[list[ToolCalled]]) -> list[ToolCalled]:
        called = await asyncio.shield(running)
        self._running = None
        return called

    def _warnings(self, problem: ServiceLost) -> list[Warned]:
        """Return what is told once: that the cascade holds the conversation by itself."""
        if self._has_warned:
            return []
        self._has_warned = True
        logger.warning("a managed conversation was lost", extra={"fields": {"reason": str(problem)}})
        return [Warned("engine", f"The cascade talks by itself: openai was lost ({problem}).")]


def _instructions(start: Start, now: datetime.datetime) -> str:
    instructions = instructions_of(start, now)
    if not start.history:
        return instructions
    conversation = "\n".join(f"{said.role}: {said.text}" for said in start.history)
    return f"{instructions}\n\nThe line was lost for a moment. Go on from what was said until then:\n{conversation}"
