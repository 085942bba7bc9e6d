"""A language model in the policy's place, with the policy to fall back on.

Any endpoint that speaks OpenAI's chat completions will do. What the model hears of its own words is what was really
spoken. A turn in which it fails, or is late with its first words, is answered by the policy, which catches up with the
conversation first.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Literal, cast

from openai import AsyncOpenAI, AsyncStream, OpenAIError
from openai.types.chat import (
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)

from gpu_workers.cascade.brain.instructions import goodbye_of, instructions_of
from gpu_workers.cascade.brain.model_settings import ModelSettings
from gpu_workers.cascade.brain.model_tools import END_CALL, MAX_ROUNDS, ModelTools, answer_for_model, read_arguments
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.speaking import make_speakable
from gpu_workers.cascade.brain.speech import HangUp, Part, Say, ToolCalled, Warned
from gpu_workers.cascade.brain.tool_client import ToolClient, ToolReply
from gpu_workers.cascade.brain.wording import LOST_THREAD
from gpu_workers.protocol import Start, ToolRun, Utterance

logger = logging.getLogger(__name__)

MAX_REPLY_TOKENS = 300
STALL_SECONDS = 5.0
"""How long a model that has begun may keep the caller waiting for its next words."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class ModelFailed(Exception):
    """The model did not answer a turn as it should."""


@dataclasses.dataclass(slots=True)
class _Call:
    """A tool call as it comes in pieces."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class LanguageModelBrain:
    """See gpu_workers.cascade.brain.speech.Brain."""

    def __init__(
        self,
        start: Start,
        tools: ToolClient,
        settings: ModelSettings,
        fallback: PolicyBrain,
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._start = start
        self._tools = ModelTools(start, tools)
        self._settings = settings
        self._fallback = fallback
        self._now = now
        self._client = AsyncOpenAI(
            base_url=settings.base_url,
            api_key=settings.api_key or "none",
            default_headers=settings.headers,
            max_retries=0,
            timeout=30.0,
        )
        self._messages: list[ChatCompletionMessageParam] = []
        for said in start.history:
            self._remember("user" if said.role == "caller" else "assistant", said.text)
        self._unfollowed: list[Utterance] = []
        """What was said since the fallback last knew where the conversation was."""
        self._turn = sum(said.role == "caller" for said in start.history)
        self._running: tuple[str, asyncio.Task[ToolReply]] | None = None
        """The tool that is at work, by its name."""

    async def greet(self) -> AsyncIterator[Part]:
        async for part in self._fallback.greet():
            yield part

    async def reply(self, heard: str) -> AsyncIterator[Part]:
        self._turn += 1
        if self._running is not None:
            # The caller cut in while a tool was at work: the model is to know what came of it.
            yield await self._finish_call(*self._running)
        self._remember("user", heard)
        if self._fallback.has_something_to_tell:
            async for part in self._fall_back(heard):
                yield part
            return
        spoke = acted = False
        try:
            async with contextlib.aclosing(self._think()) as parts:
                async for part in parts:
                    spoke = spoke or isinstance(part, Say | HangUp)
                    acted = acted or isinstance(part, ToolCalled)
                    yield part
            if not spoke:
                raise ModelFailed("it said nothing")
        except (ModelFailed, OpenAIError, TimeoutError, ValueError) as problem:
            # Not the exception itself: endpoints repeat what was sent to them.
            logger.warning("the language model failed", extra={"fields": {"reason": _reason(problem)}})
            yield Warned("language_model", f"The language model did not answer: {_reason(problem)}.")
            if not spoke and not acted:
                async for part in self._fall_back(heard):
                    yield part
                return
            if not spoke:
                # The policy would run the tool a second time.
                yield Say(LOST_THREAD)
        self._unfollowed.append(Utterance("caller", heard))

    async def wrap_up(self) -> AsyncIterator[Part]:
        async for part in self._fallback.wrap_up():
            yield part

    def was_spoken(self, text: str, *, interrupted: bool) -> None:
        if text:
            self._remember("assistant", f"{text} …" if interrupted else text)
        self._fallback.was_spoken(text, interrupted=interrupted)

    def catch_up(self, conversation: Sequence[Utterance], tools_run: Sequence[ToolRun] | None = None) -> None:
        self._start = dataclasses.replace(self._start, tools_run=(*self._start.tools_run, *(tools_run or ())))
        for said in conversation:
            self._remember("user" if said.role == "caller" else "assistant", said.text)
            self._turn += said.role == "caller"
        self._unfollowed += conversation

    async def close(self) -> None:
        await self._client.close()

    async def _fall_back(self, heard: str) -> AsyncIterator[Part]:
        self._fallback.catch_up(self._unfollowed)
        self._unfollowed.clear()
        async for part in self._fallback.reply(heard):
            yield part

    def _remember(self, role: Literal["user", "assistant"], text: str) -> None:
        """Add to the conversation. Many models refuse two messages of one role in a row, so these become one."""
        last = self._messages[-1] if self._messages else None
        if last is not None and last["role"] == role and "tool_calls" not in last:
            text = f"{last.get('content')}\n{text}"
            self._messages.pop()
        if role == "user":
            self._messages.append({"role": "user", "content": text})
        else:
            self._messages.append({"role": "assistant", "content": text})

    async def _think(self) -> AsyncGenerator[Part]:
        """Let the model speak and call tools until it has said its piece."""
        spoke = False
        for rounds_left in range(MAX_ROUNDS, -1, -1):
            calls: dict[int, _Call] = {}
            async with contextlib.aclosing(self._stream(calls, may_call=rounds_left > 0)) as sentences:
                async for sentence in sentences:
                    spoke = True
                    yield Say(sentence)
            if not calls or rounds_left == 0:
                return
            for index, call in calls.items():
                if call.name == END_CALL:
                    if not spoke:
                        yield Say(goodbye_of(self._start, self._now()))
                    yield HangUp()
                    return
                call.id = call.id or f"call_{self._turn}_{MAX_ROUNDS - rounds_left}_{index}"
                # Shielded: a caller who speaks now must not leave a booking made that the model knows nothing of.
                self._running = call.name, asyncio.create_task(self._run(call), name=f"tool {call.name}")
                yield await self._finish_call(*self._running)

    async def _finish_call(self, name: str, running: asyncio.Task[ToolReply]) -> ToolCalled:
        outcome = await asyncio.shield(running)
        self._running = None
        return ToolCalled(name, outcome.ok, outcome.duration_ms)

    async def _run(self, call: _Call) -> ToolReply:
        """Run a tool, and keep the call and its answer for this turn and those to come."""
        outcome = await self._tools.run(call.name, call.arguments, self._turn)
        # One message for each call: what was asked and what was answered are never apart.
        self._messages += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": json.dumps(read_arguments(call.arguments) or {})},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": answer_for_model(outcome)},
        ]
        return outcome

    async def _stream(self, calls: dict[int, _Call], *, may_call: bool) -> AsyncGenerator[str]:
        """Yield sentences as they are finished; collect tool calls into `calls`.

        Raises:
            TimeoutError: nothing came in time.
            OpenAIError, ValueError: the endpoint failed, or broke off.
        """
        deadline = time.monotonic() + self._settings.timeout_seconds
        async with asyncio.timeout(self._settings.timeout_seconds):
            stream = await self._open_stream(may_call=may_call)
        async with stream:
            buffer, started = "", False
            chunks = aiter(stream)
            while True:
                # A server that only says that it is there has not begun.
                limit = STALL_SECONDS if started else max(0.0, deadline - time.monotonic())
                try:
                    async with asyncio.timeout(limit):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    break
                if not chunk.choices:
                    continue
                delta = chunk.choices[0].delta
                for piece in delta.tool_calls or ():
                    started = True
                    call = calls.setdefault(piece.index, _Call())
                    call.id = piece.id or call.id
                    if piece.function is not None:
                        call.name += piece.function.name or ""
                        call.arguments += piece.function.arguments or ""
                if delta.content:
                    started = True
                    *whole, buffer = _SENTENCE_END.split(buffer + delta.content)
                    for sentence in whole:
                        if said := make_speakable(sentence):
                            yield said
            if said := make_speakable(buffer):
                yield said

    async def _open_stream(self, *, may_call: bool) -> AsyncStream[ChatCompletionChunk]:
        return await self._client.chat.completions.create(
            model=self._settings.model,
            messages=[{"role": "system", "content": instructions_of(self._start, self._now())}, *self._messages],
            tools=self._declared_tools(),
            tool_choice="auto" if may_call else "none",
            stream=True,
            max_tokens=MAX_REPLY_TOKENS,
            temperature=0.3,
        )

    def _declared_tools(self) -> list[ChatCompletionToolParam]:
        return [cast(ChatCompletionToolParam, {"type": "function", "function": tool}) for tool in self._tools.declared]


def _reason(problem: Exception) -> str:
    """Return why, in words that hold nothing of what was said."""
    if isinstance(problem, TimeoutError):
        return "it was late"
    return str(problem) if isinstance(problem, ModelFailed) else type(problem).__name__
