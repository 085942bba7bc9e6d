"""Kyutai's speech-to-text and text-to-speech as Pipecat services: workers of other pools, reached over moshi-server's
protocol. The gateway holds a place on each for the call, and says in `start` where they are.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgpack
import numpy as np
import soxr
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.utils.time import time_now_iso8601

from gpu_workers import pcm, protocol
from gpu_workers.cascade.frames import SpokenWordsFrame
from gpu_workers.cascade.moonshine import SAMPLE_RATE_HZ
from gpu_workers.line import Tell
from gpu_workers.protocol import Part

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
READY_SECONDS = 10.0
SILENT_SECONDS = 10.0
"""A worker that says nothing for so long, while it should, is lost."""

SILENCE = [0.0] * (protocol.SAMPLE_RATE_HZ * 80 // 1000)
FLUSH_EVERY_SECONDS = 0.02
FLUSH_SECONDS = 4.0
"""How long to wait for a marker. Its words come a fixed time after their sound: silence, faster than real time, brings
them."""


class PartLost(Exception):
    """A worker of another pool cannot be reached, or went away. The sentence says which."""


async def read(socket: aiohttp.ClientWebSocketResponse, *, timeout_seconds: float) -> dict[str, Any]:
    """Return the next message.

    Raises:
        PartLost: none came in time, the worker has closed, or it told of an error.
    """
    try:
        message = await socket.receive(timeout=timeout_seconds)
    except TimeoutError:
        raise PartLost("A worker said nothing for too long.") from None
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise PartLost(f"A worker closed with {socket.close_code}.")
    document: dict[str, Any] = msgpack.unpackb(message.data)
    if document.get("type") == "Error":
        raise PartLost(f"A worker failed: {document.get('message')}")
    return document


@contextlib.asynccontextmanager
async def connected(
    http: aiohttp.ClientSession, part: Part, **query: str
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, dict[str, Any]]]:
    """Hold a connection to a worker of another pool that is ready; gives it and how its container came to be.

    Raises:
        PartLost: it cannot be reached, or is not ready in time.
    """
    address = f"{part.url}?{urlencode(query)}" if query else part.url
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            socket = await http.ws_connect(address, headers=part.headers, max_msg_size=protocol.MAX_MESSAGE_BYTES)
    except (aiohttp.ClientError, OSError, TimeoutError) as problem:
        raise PartLost(f"A worker cannot be reached: {problem}") from problem
    async with socket:
        first = await read(socket, timeout_seconds=READY_SECONDS)
        if first.get("type") != "Ready":
            raise PartLost(f"A worker began with {first.get('type')} in place of Ready.")
        yield socket, first.get("boot") or {}


class KyutaiSTTService(STTService):
    """Sends all sound as it comes. At each pause a marker goes after it; what was said until it returns is the turn."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(
            sample_rate=SAMPLE_RATE_HZ,
            audio_passthrough=False,
            ttfs_p99_latency=1.0,
            settings=STTSettings(model="kyutai-stt", language=None),
        )
        self._socket = socket
        self._resampler = soxr.ResampleStream(SAMPLE_RATE_HZ, protocol.SAMPLE_RATE_HZ, 1, dtype="float32", quality="LQ")
        self._words: list[str] = []
        self._pauses: collections.deque[int] = collections.deque()
        self._running: list[asyncio.Task[None]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case VADUserStoppedSpeakingFrame():
                self._start_reading()
                self._pauses.append(frame.id)
                await self._send({"type": "Marker", "id": frame.id})
                if self._flushing is None or self._flushing.done():
                    self._flushing = self.create_task(self._flush())
            case UserStoppedSpeakingFrame():
                self._words.clear()
            case EndFrame() | CancelFrame():
                await self._stop_tasks()

    async def process_audio_frame(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        self._start_reading()
        samples = self._resampler.resample_chunk(pcm.to_samples(frame.audio))
        if len(samples):
            await self._send({"type": "Audio", "pcm": samples.tolist()})

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Nothing is run on demand: words come by themselves."""
        return
        yield

    def _start_reading(self) -> None:
        if not self._running:
            self._running.append(self.create_task(self._read()))

    async def _send(self, document: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the reader tells of it
            await self._socket.send_bytes(msgpack.packb(document))

    async def _flush(self) -> None:
        """Send silence until all markers are back."""
        for _ in range(round(FLUSH_SECONDS / FLUSH_EVERY_SECONDS)):
            if not self._pauses:
                return
            await self._send({"type": "Audio", "pcm": SILENCE})
            await asyncio.sleep(FLUSH_EVERY_SECONDS)
        logger.warning("a marker did not come back")

    async def _read(self) -> None:
        try:
            while True:
                message = await read(self._socket, timeout_seconds=protocol.Limits().max_seconds)
                match message.get("type"):
                    case "Word":
                        self._words.append(str(message.get("text", "")))
                    case "Marker":
                        await self._push_turn(int(message["id"]))
        except PartLost as problem:
            # A turn without words is one that nobody understood: the agent asks again, and the call goes on.
            logger.warning("speech to text was lost: %s", problem)

    async def _push_turn(self, pause: int) -> None:
        while self._pauses and self._pauses[0] != pause:
            self._pauses.popleft()
        if self._pauses:
            self._pauses.popleft()
        words = TranscriptionFrame(" ".join(self._words), "caller", time_now_iso8601(), finalized=True)
        words.metadata["pause"] = pause
        await self.push_frame(words)

    async def _stop_tasks(self) -> None:
        for task in (*self._running, *([self._flushing] if self._flushing else [])):
            await self.cancel_task(task)
        self._running.clear()


class KyutaiTTSService(TTSService):
    """A connection for what is said at once: text in, sound and words out as they are made.

    `instead` speaks where the worker cannot.
    """

    def __init__(self, http: aiohttp.ClientSession, part: Part, *, voice: str, instead: TTSService, tell: Tell) -> None:
        super().__init__(
            sample_rate=protocol.SAMPLE_RATE_HZ,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="kyutai-tts", voice=voice, language=None),
        )
        self._http = http
        self._part = part
        self._instead = instead
        self._tell = tell
        self._has_told = False
        self._has_warned = False
        self._query = {"format": "PcmMessagePack", **({"voice": voice} if voice else {})}

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        has_spoken = False
        try:
            async with connected(self._http, self._part, **self._query) as (socket, boot):
                await self._tell_boot(boot)
                await socket.send_bytes(msgpack.packb({"type": "Text", "text": text}))
                await socket.send_bytes(msgpack.packb({"type": "Eos"}))
                async for frame in self._speak(socket, context_id):
                    has_spoken = True
                    yield frame
        except (PartLost, ConnectionError) as problem:
            logger.warning("text to speech was lost: %s", problem)
            await self._warn(problem)
            if not has_spoken:
                async for instead in self._instead.run_tts(text, context_id):
                    yield instead

    async def _tell_boot(self, boot: dict[str, Any]) -> None:
        """Tell once how the container came to be."""
        if boot and not self._has_told:
            self._has_told = True
            await self._tell(protocol.part(part="tts", boot=boot))

    async def _warn(self, problem: Exception) -> None:
        """Tell once that this process's own voice is used."""
        if not self._has_warned:
            self._has_warned = True
            await self._tell(protocol.warning(code="tts", sentence=f"Its own voice is used: {problem}"))

    async def _speak(
        self, socket: aiohttp.ClientWebSocketResponse, context_id: str
    ) -> AsyncIterator[TTSAudioRawFrame | SpokenWordsFrame]:
        """Yield sound, and each word once the sound up to its end has been given."""
        given_seconds = 0.0
        words: collections.deque[tuple[float, str]] = collections.deque()
        while True:
            try:
                message = await read(socket, timeout_seconds=SILENT_SECONDS)
            except PartLost:
                if socket.close_code not in (1000, None):
                    raise
                break  # it has said all
            match message.get("type"):
                case "Audio":
                    samples = np.asarray(message["pcm"], np.float32)
                    given_seconds += len(samples) / protocol.SAMPLE_RATE_HZ
                    yield TTSAudioRawFrame(pcm.to_bytes(samples), protocol.SAMPLE_RATE_HZ, 1, context_id=context_id)
                case "Text":
                    words.append((float(message.get("stop_s", 0.0)), str(message.get("text", ""))))
            while words and words[0][0] <= given_seconds:
                yield SpokenWordsFrame(words.popleft()[1])
        for _, word in words:
            yield SpokenWordsFrame(word)
