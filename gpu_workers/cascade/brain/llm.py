"""A language model in the policy's place, with the policy to fall back on.

Any endpoint that speaks OpenAI's chat completions will do. What the model hears of its own words is what was really
spoken. A turn in which it fails, or is late with its first words, is answered by the policy, which follows the
conversation all along.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from openai import AsyncOpenAI, OpenAIError

from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.speaking import make_speakable
from gpu_workers.cascade.brain.speech import HangUp, Part, Say, ToolCalled, Warned
from gpu_workers.cascade.brain.tool_client import ToolClient
from gpu_workers.protocol import Start, Utterance

MAX_ROUNDS = 4
"""How often a model may call tools in one turn."""
MAX_REPLY_TOKENS = 300

END_CALL = {
    "type": "function",
    "function": {
        "name": "end_call",
        "description": "Hang up, after goodbyes were said.",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
STYLE = """You are on the telephone. Speak in one or two short sentences, in plain words, with no lists, no markup and no emoji.
Write dates, times, prices and numbers as they are spoken, telephone numbers digit by digit. Ask for one thing at a time.
Never invent a fact, a price or a free time. Before you book, change or cancel anything, say it back and wait for a yes."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSettings:
    """Where the language model is. `timeout_seconds`: until its first words or its first tool call."""

    base_url: str
    model: str
    api_key: str = dataclasses.field(default="", repr=False)
    timeout_seconds: float = 2.5

    @classmethod
    def from_environment(cls) -> ModelSettings | None:
        """Read LLM_BASE_URL, LLM_MODEL, LLM_API_KEY and LLM_TIMEOUT_SECONDS; None where there is no model."""
        if not (base_url := os.environ.get("LLM_BASE_URL")):
            return None
        return cls(
            base_url=base_url,
            model=os.environ.get("LLM_MODEL") or "default",
            api_key=os.environ.get("LLM_API_KEY") or "",
            timeout_seconds=float(os.environ.get("LLM_TIMEOUT_SECONDS") or 2.5),
        )


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
        self._tools = tools
        self._settings = settings
        self._fallback = fallback
        self._now = now
        self._client = AsyncOpenAI(
            base_url=settings.base_url, api_key=settings.api_key or "none", max_retries=0, timeout=30.0
        )
        self._messages: list[dict[str, Any]] = [
            {"role": "user" if said.role == "caller" else "assistant", "content": said.text} for said in start.history
        ]
        self._heard: list[Utterance] = list(start.history)
        self._turn = sum(said.role == "caller" for said in start.history)

    async def greet(self) -> AsyncIterator[Part]:
        async for part in self._fallback.greet():
            yield part

    async def reply(self, heard: str) -> AsyncIterator[Part]:
        self._turn += 1
        self._messages.append({"role": "user", "content": heard})
        self._heard.append(Utterance("caller", heard))
        spoke = False
        try:
            async for part in self._think():
                spoke = spoke or isinstance(part, Say | ToolCalled)
                yield part
            return
        except (OpenAIError, TimeoutError, ValueError) as problem:
            yield Warned("language_model", f"The language model did not answer: {type(problem).__name__}.")
        if spoke:
            # Half an answer was given: the caller's next words go on from there.
            return
        async for part in self._fallback_reply(heard):
            yield part

    async def wrap_up(self) -> AsyncIterator[Part]:
        async for part in self._fallback.wrap_up():
            yield part

    def was_spoken(self, text: str, *, interrupted: bool) -> None:
        if text:
            self._messages.append({"role": "assistant", "content": f"{text} …" if interrupted else text})
            self._heard.append(Utterance("agent", text))
        self._fallback.was_spoken(text, interrupted=interrupted)

    async def close(self) -> None:
        await self._client.close()

    async def _fallback_reply(self, heard: str) -> AsyncIterator[Part]:
        await self._fallback.catch_up(self._heard[:-1])
        async for part in self._fallback.reply(heard):
            yield part

    async def _think(self) -> AsyncIterator[Part]:
        """Let the model speak and call tools until it has said its piece."""
        aside: list[dict[str, Any]] = []
        for _ in range(MAX_ROUNDS):
            calls: dict[int, dict[str, str]] = {}
            async for sentence in self._stream(aside, calls):
                yield Say(sentence)
            if not calls:
                return
            aside.append(_assistant_message(calls))
            for call in calls.values():
                if call["name"] == "end_call":
                    yield HangUp()
                    return
                arguments = _read_arguments(call["arguments"])
                outcome = await self._tools.call(call["name"], arguments, self._turn)
                yield ToolCalled(call["name"], outcome.ok, outcome.duration_ms)
                answer = outcome.result if outcome.ok else {"error": outcome.sentence, **outcome.result}
                aside.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(answer)})
        # What tools answered is worth remembering in the turns to come.
        self._messages.extend(aside)

    async def _stream(self, aside: list[dict[str, Any]], calls: dict[int, dict[str, str]]) -> AsyncIterator[str]:
        """Yield sentences as they are finished; collect tool calls into `calls`.

        Raises:
            TimeoutError: nothing came in time.
            OpenAIError: the endpoint failed.
        """
        tools = self._declared_tools()
        deadline = time.monotonic() + self._settings.timeout_seconds
        async with asyncio.timeout(self._settings.timeout_seconds):
            stream = await self._client.chat.completions.create(
                model=self._settings.model,
                messages=[{"role": "system", "content": self._system()}, *self._messages, *aside],  # type: ignore[arg-type]
                tools=tools,  # type: ignore[arg-type]
                stream=True,
                max_tokens=MAX_REPLY_TOKENS,
                temperature=0.3,
            )
        buffer, started = "", False
        chunks = aiter(stream)
        while True:
            limit = 10.0 if started else max(0.05, deadline - time.monotonic())
            try:
                async with asyncio.timeout(limit):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            delta = chunk.choices[0].delta if chunk.choices else None
            if delta is None:
                continue
            for piece in delta.tool_calls or ():
                started = True
                call = calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
                call["id"] = piece.id or call["id"]
                if piece.function is not None:
                    call["name"] += piece.function.name or ""
                    call["arguments"] += piece.function.arguments or ""
            if delta.content:
                started = True
                *whole, buffer = _SENTENCE_END.split(buffer + delta.content)
                for sentence in whole:
                    if said := make_speakable(sentence):
                        yield said
        if said := make_speakable(buffer):
            yield said

    def _declared_tools(self) -> list[dict[str, Any]]:
        declared = [
            {"type": "function", "function": tool}
            for tool in self._start.agent.get("tools", [])
            if isinstance(tool, dict)
        ]
        return [*declared, END_CALL]

    def _system(self) -> str:
        agent, business = self._start.agent, self._start.business
        facts = "\n".join(f"- {fact['question']} {fact['answer']}" for fact in agent.get("facts", []))
        now = self._now()
        return "\n\n".join(
            part
            for part in (
                agent.get("prompt", ""),
                STYLE,
                f"The business is {business.get('name', 'unknown')}. Its local time is {now:%A, %d %B %Y, %H:%M}. "
                "Tools take local times like 2026-11-24T15:30.",
                f"Facts you may tell:\n{facts}" if facts else "",
            )
            if part
        )


def _assistant_message(calls: dict[int, dict[str, str]]) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"] or "{}"},
            }
            for call in calls.values()
        ],
    }


def _read_arguments(text: str) -> dict[str, Any]:
    """Return the arguments a model wrote; what is no JSON object becomes none, and the tool says what is missing."""
    try:
        arguments = json.loads(text or "{}")
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}
