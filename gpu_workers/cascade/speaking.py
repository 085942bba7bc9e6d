"""Text to speech as a Pipecat service: a sentence in, its sound out with the words in their places."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor

import numpy as np
from hibari import Hibari
from pipecat.frames.frames import Frame, TTSAudioRawFrame
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService

from gpu_workers import pcm, protocol
from gpu_workers.cascade.frames import SpokenWordsFrame
from gpu_workers.pcm import Samples

QUIET = 0.01
KEPT_BEFORE_SECONDS = 0.02
KEPT_AFTER_SECONDS = 0.22
"""The model puts 0.3 s of silence before each sentence and 0.45 s after it: what is kept is a natural pause."""
LOUDNESS = 2.0
"""The model speaks at a peak of about 0.3."""


class HibariService(TTSService):
    def __init__(self, model: Hibari, threads: Executor) -> None:
        super().__init__(
            sample_rate=protocol.SAMPLE_RATE_HZ,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="hibari", voice=model.voice, language=None),
        )
        self._model = model
        self._threads = threads

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        run = asyncio.get_running_loop().run_in_executor
        for sentence in self._model.split_sentences(text):
            samples = await run(self._threads, self._synthesise, sentence)
            for words, part in share_out(sentence.split(), samples):
                yield TTSAudioRawFrame(pcm.to_bytes(part), protocol.SAMPLE_RATE_HZ, 1, context_id=context_id)
                yield SpokenWordsFrame(words)

    def _synthesise(self, sentence: str) -> Samples:
        return trim(self._model(sentence)) * LOUDNESS


def trim(samples: Samples) -> Samples:
    """Cut the silence before and after speech down to natural pauses."""
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    if not len(loud):
        return samples[:0]
    begin = loud[0] - int(KEPT_BEFORE_SECONDS * protocol.SAMPLE_RATE_HZ)
    end = loud[-1] + int(KEPT_AFTER_SECONDS * protocol.SAMPLE_RATE_HZ)
    return samples[max(0, begin) : end]


def share_out(words: list[str], samples: Samples) -> Iterator[tuple[str, Samples]]:
    """Yield each word with its part of the sound, by its length: near enough to tell what an interruption cut off."""
    lengths = np.cumsum([len(re.sub(r"\W", "", word)) + 1 for word in words])
    ends = (lengths / lengths[-1] * len(samples)).astype(int)
    for word, begin, end in zip(words, [0, *ends], ends, strict=False):
        yield word, samples[begin:end]
