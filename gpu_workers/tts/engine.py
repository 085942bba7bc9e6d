"""Kyutai's text-to-speech as an engine: each session is a stream in one batch. Unmute's client can speak to it."""

from __future__ import annotations

from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.moshi_messages import BadMessage
from gpu_workers.moshi_server import MoshiServerEngine, refused
from gpu_workers.sizing import largest_batch
from gpu_workers.tts.batch import TtsBatch
from gpu_workers.tts.synthesis import Synthesis
from gpu_workers.visit import Visit


class TtsEngine(MoshiServerEngine):
    kind = "tts"
    path = "/api/tts_streaming"
    _batch: TtsBatch

    def _make_batch(self, checkpoint: Checkpoint, *, at_most: int) -> TtsBatch:
        return largest_batch(lambda places: TtsBatch(checkpoint, places=places), at_most=at_most)

    async def _hold(self, visit: Visit) -> str:
        try:
            synthesis = Synthesis(visit, self._batch, self._stepper)
        except BadMessage as problem:
            raise refused(problem) from problem
        return await synthesis.hold()
