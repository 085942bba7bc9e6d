"""The cascade: hears with Silero and Moonshine, thinks with a brain, speaks with Hibari.

A managed service may do a part of that, or hold the conversation. Models are loaded once a process and shared by its
sessions, each a Pipecat pipeline. Inference that takes long runs in threads, made after the fork.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

from gpu_workers import protocol
from gpu_workers.chat import ChatEngine
from gpu_workers.engine import Identity
from gpu_workers.line import Line
from gpu_workers.metrics import Metrics
from gpu_workers.protocol import Start

if TYPE_CHECKING:
    from gpu_workers.cascade.brain.speech import FollowingBrain
    from gpu_workers.cascade.realtime import RealtimeBrain

WARM_UP_WORDS = "What are the opening hours of Warmlinia on Tuesday?"
"""One of these words is in no dictionary, so that the text-to-speech loads its model for such words, too."""


class CascadeEngine(ChatEngine):
    kind = "cascade"

    def __init__(self, *, checkpoint: str | None = None, max_sessions: int = 4) -> None:
        self.places = max_sessions
        self._client: aiohttp.ClientSession | None = None
        if checkpoint is not None:
            raise ValueError("The cascade's models come with its packages: it takes no checkpoint.")

    def load(self) -> None:
        """Load the models and say a sentence to itself, so that the first caller does not wait for anything."""
        _take_over_logs()

        import soxr
        from hibari import Hibari

        # Imported here for the snapshot: the pipeline's modules take most of a second.
        from gpu_workers import speech_detector
        from gpu_workers.cascade import brains, parts
        from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ, Moonshine

        self._models = parts.Models(speech_detector.load_model(), Moonshine(), Hibari(voice="heart"))
        self._brains = brains.load()
        spoken = self._models.hibari(WARM_UP_WORDS)
        heard = soxr.resample(spoken, self._models.hibari.sample_rate, SAMPLE_RATE_HZ)
        self._models.moonshine.transcribe(heard.astype(np.float32))

    def attach(self, identity: Identity, metrics: Metrics) -> None:
        # Speaking has threads of its own: a short sentence must not wait behind the transcriptions of other sessions.
        workers = min(os.cpu_count() or 1, identity.max_sessions)
        self._hearing = ThreadPoolExecutor(workers, thread_name_prefix="hearing")
        self._speaking = ThreadPoolExecutor(workers, thread_name_prefix="speaking")
        self._brains.attach()

    async def converse(self, start: Start, line: Line) -> None:
        from gpu_workers.cascade import parts, pipeline

        self._brains.look_at_examples(start, self._hearing)
        async with parts.chosen_model(start, line, self._http()) as model:
            brain = self._brains.make(start, model)
            realtime = await self._realtime(start, line, brain)
            try:
                async with parts.chosen_parts(
                    start, line, self._models, self._http(), hearing=self._hearing, speaking=self._speaking
                ) as (stt, tts):
                    await pipeline.converse(
                        line,
                        realtime or brain,
                        self._models.speech,
                        stt=stt,
                        tts=tts,
                        beside=[realtime.connection] if realtime else [],
                    )
            finally:
                await brain.close()

    async def _realtime(self, start: Start, line: Line, fallback: FollowingBrain) -> RealtimeBrain | None:
        """Return the brain of a service that is to hold the conversation; None where none is, or there is no key."""
        if (service := start.services.get("engine")) is None:
            return None
        if service.provider == "openai" and service.key:
            return self._brains.make_realtime(start, service, fallback)
        sentence = f"The cascade talks by itself: there is no key for {service.provider}."
        await line.send_metadata(protocol.warning(code="engine", sentence=sentence))
        return None

    def _http(self) -> aiohttp.ClientSession:
        """Return what reaches workers of other pools; made inside the event loop."""
        if self._client is None:
            self._client = aiohttp.ClientSession()
        return self._client

    async def close(self) -> None:
        self._hearing.shutdown(wait=False)
        self._speaking.shutdown(wait=False)
        await self._brains.close()
        if self._client is not None:
            await self._client.close()


def _take_over_logs() -> None:
    """Have Pipecat's warnings in the worker's own log. Comes before Pipecat is imported, which logs at once."""
    from loguru import logger as pipecat_log

    pipecat_log.remove()
    pipecat_log.add(
        lambda message: logging.getLogger("pipecat").log(message.record["level"].no, message.record["message"]),
        level="WARNING",
    )
