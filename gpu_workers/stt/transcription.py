"""One client's socket and one place in the batch, joined: sound in, words and pause predictions out."""

from __future__ import annotations

import asyncio
import collections

import numpy as np
import sphn

from gpu_workers import moshi_messages, protocol
from gpu_workers.batching import Stream
from gpu_workers.line import LineClosed
from gpu_workers.moshi_server import receive, refused
from gpu_workers.pcm import Samples
from gpu_workers.protocol import CloseCode
from gpu_workers.stt import messages
from gpu_workers.stt.batch import Heard
from gpu_workers.stt.messages import Audio, Init, Marker, OggOpus, Request
from gpu_workers.visit import Visit, first_to_end, send

FRAME_SAMPLES = 1_920
"""80 ms of 24 kHz."""
SILENT_CLIENT_TIMEOUT_SECONDS = 120.0
"""A client that sends nothing at all for so long is gone. As in moshi-server."""
UNTOLD_FRAMES = 50
"""How many frames may be on their way, from the client through the model and back, before no more are read."""
WAITING_MARKERS = 1_000


class Transcription:
    """A stream from its first sample on."""

    def __init__(self, visit: Visit, stream: Stream, *, delay_frames: int) -> None:
        self.is_to_begin_anew = False
        """Whether it ended because the client wants another."""
        self._visit = visit
        self._stream = stream
        self._delay_frames = delay_frames
        self._opus: sphn.OpusStreamReader | None = None
        self._rest = np.zeros(0, np.float32)
        """What does not fill a frame yet."""
        self._frames_put = 0
        self._ways = asyncio.Semaphore(UNTOLD_FRAMES)
        self._markers: collections.deque[tuple[int, int]] = collections.deque()
        """The frame after which each is due, and its id; in order."""

    async def hold(self) -> None:
        """Transcribe until the client hangs up or wants to begin anew.

        Raises:
            LineClosed: what the client sent was not of the protocol's form, or nothing came for too long.
            ConnectionError: the client has gone, or takes nothing any more.
            BatchFailed: the model failed.
        """
        await send(self._visit.socket, moshi_messages.ready(self._visit.boot))
        await first_to_end(
            asyncio.create_task(self._listen(), name="listen"), asyncio.create_task(self._tell(), name="tell")
        )

    async def _listen(self) -> None:
        while (request := await self._receive()) is not None:
            match request:
                case Audio(samples):
                    await self._hear(samples)
                case OggOpus(data):
                    await self._hear(await self._decode(data))
                case Marker(marker_id):
                    self._mark(marker_id)
                case Init():
                    self.is_to_begin_anew = True
                    return

    async def _receive(self) -> Request | None:
        message = await receive(self._visit, timeout_seconds=SILENT_CLIENT_TIMEOUT_SECONDS)
        try:
            return messages.read(*message) if message else None
        except moshi_messages.BadMessage as problem:
            raise refused(problem) from problem

    async def _decode(self, ogg_opus: bytes) -> Samples:
        self._opus = self._opus or sphn.OpusStreamReader(protocol.SAMPLE_RATE_HZ)
        try:
            samples = await asyncio.get_running_loop().run_in_executor(
                self._visit.codec_threads, self._opus.append_bytes, ogg_opus
            )
        except Exception as problem:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, f"Audio was not Ogg Opus: {problem}") from problem
        return np.asarray(samples, np.float32)

    async def _hear(self, samples: Samples) -> None:
        """Cut what the client sends into the model's frames."""
        sound = np.concatenate((self._rest, samples))
        whole = len(sound) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = sound[whole:]
        for at in range(0, whole, FRAME_SAMPLES):
            await self._ways.acquire()
            await self._stream.put(sound[at : at + FRAME_SAMPLES])
            self._frames_put += 1

    def _mark(self, marker_id: int) -> None:
        """Have a marker answered when the frame with the last sample before it, and the model's delay, have passed."""
        if len(self._markers) >= WAITING_MARKERS:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, f"More than {WAITING_MARKERS:,} markers wait for their sound.")
        due = self._frames_put + (1 if len(self._rest) else 0) + self._delay_frames
        self._markers.append((due, marker_id))

    async def _tell(self) -> None:
        step: Heard
        async for step in self._stream.outputs():
            buffered = (self._frames_put - step.step) * FRAME_SAMPLES + len(self._rest)
            for message in messages.heard(step, buffered_samples=max(0, buffered)):
                await send(self._visit.socket, message)
            while self._markers and self._markers[0][0] <= step.step:
                await send(self._visit.socket, messages.marker(self._markers.popleft()[1]))
            self._ways.release()
