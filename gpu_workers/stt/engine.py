"""Kyutai's speech-to-text as an engine: each session is a stream in one batch. Unmute's client can speak to it."""

from __future__ import annotations

import logging

import torch

from gpu_workers.batching import BatchFailed, FrameTimes, NoPlace, Stepper
from gpu_workers.engine import Identity
from gpu_workers.line import LineClosed
from gpu_workers.metrics import Metrics
from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.protocol import CloseCode
from gpu_workers.sizing import largest_batch
from gpu_workers.stt import messages
from gpu_workers.stt.batch import SttBatch
from gpu_workers.stt.transcription import Transcription
from gpu_workers.visit import Visit, close, send_quietly

logger = logging.getLogger(__name__)

NO_PLACE = "No free channels: try again later."
FAILED = "The transcription failed: connect again."


class SttEngine:
    kind = "stt"
    path = "/api/asr-streaming"
    refusal: bytes | None = messages.error(NO_PLACE)

    def __init__(self, *, checkpoint: str | None = None, max_sessions: int = 4) -> None:
        if checkpoint is None:
            raise ValueError(
                "Speech-to-text needs the folder of a checkpoint: python -m gpu_workers stt --checkpoint DIR."
            )
        self._folder = checkpoint
        self._max_sessions = max_sessions

    def load(self) -> None:
        """Load the weights, and step the largest batch that keeps up until it is warm."""
        torch.set_num_threads(1)  # a pool of threads would not survive the fork of a loaded parent
        loaded = checkpoints.load(self._folder)
        self._batch = largest_batch(lambda places: SttBatch(loaded, places=places), at_most=self._max_sessions)

    @property
    def places(self) -> int:
        """How many streams the device carries in real time."""
        return self._batch.places

    def attach(self, identity: Identity, metrics: Metrics) -> None:
        self._stepper = Stepper(
            self._batch,
            times=FrameTimes(
                stepped=lambda seconds, places: metrics.frame_seconds.observe(seconds),
                late=metrics.late_frames.inc,
            ),
        )

    async def serve(self, visit: Visit) -> str:
        """Transcribe what a client sends until it hangs up, close its socket, and return why it ended."""
        logger.info("session began", extra={"fields": {"session": visit.session_id}})
        try:
            while await self._transcribe(visit):
                pass
        except LineClosed as closed:
            return await _end(visit, closed.code, str(closed))
        except ConnectionError:
            return "caller_gone"
        except NoPlace:
            return await _end(visit, CloseCode.WORKER_AT_CAPACITY, NO_PLACE)
        except BatchFailed:
            return await _end(visit, CloseCode.INTERNAL_ERROR, FAILED)
        except Exception:
            logger.exception("the transcription failed")
            return await _end(visit, CloseCode.INTERNAL_ERROR, FAILED)
        await close(visit.socket, CloseCode.NORMAL)
        return "caller_hung_up"

    async def close(self) -> None:
        self._stepper.stop()

    async def _transcribe(self, visit: Visit) -> bool:
        """Hold one stream from its first sample on; return whether the client wants another."""
        stream = await self._stepper.join(None)
        transcription = Transcription(visit, stream, delay_frames=self._batch.delay_frames)
        try:
            await transcription.hold()
        finally:
            stream.leave()
        return transcription.is_to_begin_anew


async def _end(visit: Visit, code: CloseCode, sentence: str) -> str:
    await send_quietly(visit.socket, messages.error(sentence))
    await close(visit.socket, code)
    return code.name.lower()
