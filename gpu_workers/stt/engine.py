"""Kyutai's speech-to-text as an engine: each session is a stream in one batch. Unmute's client can speak to it."""

from __future__ import annotations

from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.moshi_server import MoshiServerEngine
from gpu_workers.sizing import largest_batch
from gpu_workers.stt.batch import SttBatch
from gpu_workers.stt.transcription import Transcription
from gpu_workers.visit import Visit


class SttEngine(MoshiServerEngine):
    kind = "stt"
    path = "/api/asr-streaming"
    _batch: SttBatch

    def _make_batch(self, checkpoint: Checkpoint, *, at_most: int) -> SttBatch:
        return largest_batch(lambda places: SttBatch(checkpoint, places=places), at_most=at_most)

    async def _hold(self, visit: Visit) -> str:
        """Transcribe what a client sends until it hangs up."""
        while await self._transcribe(visit):
            pass
        return "caller_hung_up"

    async def _transcribe(self, visit: Visit) -> bool:
        """Hold one stream from its first sample on; return whether the client wants another."""
        stream = await self._stepper.join(None)
        transcription = Transcription(visit, stream, delay_frames=self._batch.delay_frames)
        try:
            await transcription.hold()
        finally:
            stream.leave()
        return transcription.is_to_begin_anew
