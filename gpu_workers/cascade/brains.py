"""Which brain a conversation gets: a language model where worker and agent have one, else the policy."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import aiohttp

from gpu_workers.cascade.brain.intents import IntentModel
from gpu_workers.cascade.brain.llm import LanguageModelBrain, ModelSettings
from gpu_workers.cascade.brain.policy import PolicyBrain
from gpu_workers.cascade.brain.speech import FollowingBrain
from gpu_workers.cascade.brain.tool_client import HttpToolClient, NoTools, ToolClient
from gpu_workers.cascade.realtime import RealtimeBrain
from gpu_workers.protocol import Service, Start


def load() -> Brains:
    """Load what goes into the snapshot: no secret, no socket."""
    return Brains(IntentModel())


class Brains:
    def __init__(self, intents: IntentModel) -> None:
        self._intents = intents
        self._intents.embed("What are your opening hours?")
        self._settings: ModelSettings | None = None
        self._http: aiohttp.ClientSession | None = None

    def attach(self) -> None:
        """Read the secrets of this boot."""
        self._settings = ModelSettings.from_environment()

    def make(self, start: Start, model: ModelSettings | None = None) -> FollowingBrain:
        """Return the brain of one call. Runs inside the event loop.

        Args:
            model: the agent's own; None for the worker's, where it has one.
        """
        tools, now = self._tools(start), business_clock(start.business)
        policy = PolicyBrain(start, tools, now, self._intents)
        settings = model or self._settings
        if settings is None or not (start.agent.get("llm") or {}).get("enabled", True):
            return policy
        return LanguageModelBrain(start, tools, settings, policy, now)

    def make_realtime(self, start: Start, service: Service, fallback: FollowingBrain) -> RealtimeBrain:
        """Return a brain that hears, thinks and speaks by a managed service, with another to fall back on."""
        return RealtimeBrain(start, service, self._tools(start), fallback, business_clock(start.business))

    def _tools(self, start: Start) -> ToolClient:
        if start.tools_endpoint is None:
            return NoTools()
        if self._http is None:
            self._http = aiohttp.ClientSession()
        return HttpToolClient(start.tools_endpoint, self._http)

    def look_at_examples(self, start: Start, threads: Executor) -> None:
        """Look at the agent's example sentences ahead (4 ms each, once a process): no caller is to wait for that."""
        for sentence in _example_sentences(start.agent):
            threads.submit(self._intents.embed, sentence)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


def _example_sentences(agent: dict[str, Any]) -> Iterator[str]:
    for intent in agent.get("intents") or ():
        yield from intent.get("examples") or ()
    for fact in agent.get("facts") or ():
        yield fact["question"]
        yield from fact.get("also") or ()


def business_clock(business: dict[str, Any]) -> Callable[[], datetime.datetime]:
    """Return a function giving the business's wall clock: the gateway's `now`, moved on by this machine's clock."""
    began = time.monotonic()
    try:
        at_start = datetime.datetime.fromisoformat(str(business["now"]))
    except (KeyError, ValueError):
        at_start = datetime.datetime.now(datetime.UTC)
    try:
        at_start = at_start.astimezone(ZoneInfo(str(business.get("time_zone") or "UTC")))
    except (ZoneInfoNotFoundError, ValueError):
        pass
    return lambda: (at_start + datetime.timedelta(seconds=time.monotonic() - began)).replace(tzinfo=None, microsecond=0)
