"""The cascade: hears with Silero and Moonshine, thinks with a brain, speaks with Hibari.

Models are loaded once a process and shared by its sessions, each a Pipecat pipeline. Inference that takes long runs in
threads, made after the fork.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gpu_workers.engine import Identity
from gpu_workers.line import Line
from gpu_workers.protocol import Start

logger = logging.getLogger(__name__)

WARM_UP_WORDS = "What are the opening hours of Warmlinia on Tuesday?"


class CascadeEngine:
    kind = "cascade"

    def __init__(self, *, checkpoint: str | None = None) -> None:
        if checkpoint is not None:
            raise ValueError("The cascade's models come with its packages: it takes no checkpoint.")
        self._threads: ThreadPoolExecutor | None = None

    def load(self) -> None:
        """Load the models and say a sentence to itself, so that the first caller does not wait for anything."""
        _take_over_logs()

        import soxr
        from hibari import Hibari

        # Imported here for the snapshot: the pipeline's modules take most of a second.
        from gpu_workers.cascade import brains, pipeline, speech_detector  # noqa: F401
        from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ, Moonshine

        self._speech_model = speech_detector.load_model()
        self._moonshine = Moonshine()
        self._hibari = Hibari(voice="heart")
        self._brains = brains.load()
        # A word that no lexicon has makes the text-to-speech load its model for such words, too.
        spoken = soxr.resample(self._hibari(WARM_UP_WORDS), self._hibari.sample_rate, SAMPLE_RATE_HZ)
        self._moonshine.transcribe(spoken.astype(np.float32))

    def attach(self, identity: Identity) -> None:
        cores = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(max_workers=min(cores, identity.max_sessions), thread_name_prefix="models")
        self._brains.attach()

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        await self._brains.close()

    async def converse(self, start: Start, line: Line) -> None:
        from gpu_workers.cascade import pipeline

        assert self._threads is not None, "attach() comes before converse()"
        await pipeline.converse(
            start,
            line,
            brain=self._brains.make(start),
            speech_model=self._speech_model,
            moonshine=self._moonshine,
            hibari=self._hibari,
            threads=self._threads,
        )


def _take_over_logs() -> None:
    """Have Pipecat's warnings in the worker's own log. Comes before Pipecat is imported, which logs at once."""
    from loguru import logger as pipecat_log

    pipecat_log.remove()
    pipecat_log.add(
        lambda message: logging.getLogger("pipecat").log(message.record["level"].no, message.record["message"]),
        level="WARNING",
    )
