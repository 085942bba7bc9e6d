"""Managed services in place of the cascade's own ears and voice: Pipecat's services for them, with the tenant's key.

A voice is told a sentence at a time. Where the service refuses, fails or is silent, the cascade's own voice speaks.
"""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import logging
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
from pipecat.frames.frames import ErrorFrame, Frame, TTSAudioRawFrame
from pipecat.services.cartesia.tts import CartesiaHttpTTSService
from pipecat.services.elevenlabs.tts import ElevenLabsHttpTTSService
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService

from gpu_workers import pcm, protocol
from gpu_workers.cascade.deepgram import DeepgramEars
from gpu_workers.cascade.frames import SpokenWordsFrame
from gpu_workers.cascade.kyutai import PartLost
from gpu_workers.cascade.speaking import share_out
from gpu_workers.cascade.transcribing import MoonshineService
from gpu_workers.line import Tell
from gpu_workers.protocol import Service

logger = logging.getLogger(__name__)

FIRST_SOUND_SECONDS = 4.0
STALL_SECONDS = 10.0
LOST = (PartLost, aiohttp.ClientError, TimeoutError, ValueError)
"""What comes of a provider that refuses, fails or is silent."""
BYTES_PER_SECOND = 2 * protocol.SAMPLE_RATE_HZ


class _Managed(TTSService):
    """What both have in common: a provider's frames become sound with the words in their places."""

    def __init__(
        self, http: aiohttp.ClientSession, service: Service, instead: TTSService, tell: Tell, **of_provider: Any
    ) -> None:
        super().__init__(api_key=service.key, aiohttp_session=http, sample_rate=protocol.SAMPLE_RATE_HZ, **of_provider)
        self._service, self._instead, self._tell = service, instead, tell
        self._has_warned = False

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        has_spoken = False
        try:
            async with contextlib.aclosing(self._speak(text, context_id)) as frames:
                async for frame in frames:
                    has_spoken = True
                    yield frame
        except LOST as problem:
            # Not in its own words: a provider may repeat what was sent to it.
            logger.warning("a managed voice was lost", extra={"fields": {"reason": type(problem).__name__}})
            await self._warn()
            if not has_spoken:
                async for instead in self._instead.run_tts(text, context_id):
                    yield instead

    @abc.abstractmethod
    def _speak(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        """Yield sound and words.

        Raises:
            PartLost, aiohttp.ClientError, TimeoutError, ValueError: the provider failed.
        """

    async def _sound_of(self, provider: AsyncGenerator[Frame | None, None]) -> AsyncIterator[TTSAudioRawFrame]:
        """Yield the sound of a provider's frames, each awaited for a limited time."""
        limit_seconds = FIRST_SOUND_SECONDS
        async with contextlib.aclosing(provider):
            while True:
                try:
                    async with asyncio.timeout(limit_seconds):
                        frame = await anext(provider)
                except StopAsyncIteration:
                    return
                if isinstance(frame, ErrorFrame):
                    raise PartLost(f"{self._service.provider} failed.")
                if isinstance(frame, TTSAudioRawFrame) and frame.audio:
                    limit_seconds = STALL_SECONDS
                    yield frame

    async def _warn(self) -> None:
        """Tell once that this process's own voice is used."""
        if not self._has_warned:
            self._has_warned = True
            sentence = f"Its own voice is used: {self._service.provider} refused or failed."
            await self._tell(protocol.warning(code="tts", sentence=sentence))


class ElevenLabsVoice(_Managed, ElevenLabsHttpTTSService):
    """Sound as it comes, and words by the provider's own times."""

    def __init__(
        self, http: aiohttp.ClientSession, service: Service, voice: str, instead: TTSService, tell: Tell
    ) -> None:
        address = os.environ.get("WORKER_ELEVENLABS_URL") or "https://api.elevenlabs.io"
        settings = ElevenLabsHttpTTSService.Settings(voice=quote(voice, safe=""))
        super().__init__(http, service, instead, tell, base_url=address, settings=settings)
        self._words: collections.deque[tuple[str, float]] = collections.deque()

    async def add_word_timestamps(self, word_times: list[tuple[str, float]], *_: Any, **__: Any) -> None:
        """Keep the words for where their sound is, in place of sending them on at their times."""
        self._words.extend(word_times)

    async def _speak(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        self._words.clear()
        before_seconds, given_seconds = float(self._cumulative_time), 0.0
        try:
            async for sound in self._sound_of(ElevenLabsHttpTTSService.run_tts(self, text, context_id)):
                # A word is told once it is whole: those that begin in what was given end there, too.
                for word in self._words_before(before_seconds + given_seconds):
                    yield word
                yield sound
                given_seconds += len(sound.audio) / BYTES_PER_SECOND
        except LOST:
            for word in self._words_before(before_seconds + given_seconds):
                yield word
            raise
        for word in self._words_before(math.inf):
            yield word

    def _words_before(self, seconds: float) -> Iterator[SpokenWordsFrame]:
        while self._words and self._words[0][1] < seconds:
            yield SpokenWordsFrame(self._words.popleft()[0])


class CartesiaVoice(_Managed, CartesiaHttpTTSService):
    """A sentence's sound at once; its words share it by their length."""

    def __init__(
        self, http: aiohttp.ClientSession, service: Service, voice: str, instead: TTSService, tell: Tell
    ) -> None:
        address = os.environ.get("WORKER_CARTESIA_URL") or "https://api.cartesia.ai"
        settings = CartesiaHttpTTSService.Settings(voice=voice)
        super().__init__(http, service, instead, tell, base_url=address, settings=settings)

    async def _speak(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        async for sound in self._sound_of(CartesiaHttpTTSService.run_tts(self, text, context_id)):
            for word, part in share_out(text.split(), pcm.to_samples(sound.audio)):
                yield TTSAudioRawFrame(pcm.to_bytes(part), protocol.SAMPLE_RATE_HZ, 1, context_id=context_id)
                yield SpokenWordsFrame(word)


EARS = {"deepgram": DeepgramEars}
VOICES = {"elevenlabs": ElevenLabsVoice, "cartesia": CartesiaVoice}


async def managed_ears(service: Service, *, instead: MoonshineService, tell: Tell) -> STTService:
    """Return a provider's ears; the worker's own where there is no such provider, or no key for it."""
    if service.provider in EARS and service.key:
        return EARS[service.provider](service, instead=instead, tell=tell)
    await tell(protocol.warning(code="stt", sentence=f"Its own ears are used: there is no key for {service.provider}."))
    return instead


async def managed_voice(
    http: aiohttp.ClientSession, service: Service, *, voice: str, instead: TTSService, tell: Tell
) -> TTSService:
    """Return a provider's voice; the worker's own where there is no such provider, or no key for it."""
    if service.provider in VOICES and service.key:
        return VOICES[service.provider](http, service, voice, instead, tell)
    await tell(protocol.warning(code="tts", sentence=f"Its own voice is used: there is no key for {service.provider}."))
    return instead
