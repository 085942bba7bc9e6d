"""What engines have in common whose sessions are streams of one batch of a checkpoint's model."""

from __future__ import annotations

import abc

import torch

from gpu_workers.batching import FrameTimes, Stepper
from gpu_workers.engine import Identity
from gpu_workers.metrics import Metrics
from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.sizing import Batch


class BatchEngine(abc.ABC):
    """Loads a checkpoint into the largest batch that the device carries, and steps it. Kinds say what a session is."""

    kind: str

    def __init__(self, *, checkpoint: str | None = None, max_sessions: int = 4) -> None:
        if checkpoint is None:
            raise ValueError(
                f"{self.kind} needs the folder of a checkpoint: python -m gpu_workers {self.kind} --checkpoint DIR."
            )
        self._folder = checkpoint
        self._max_sessions = max_sessions

    def load(self) -> None:
        """Load the weights, and step the largest batch that keeps up until it is warm."""
        torch.set_num_threads(1)  # a pool of threads would not survive the fork of a loaded parent
        self._batch = self._make_batch(checkpoints.load(self._folder), at_most=self._max_sessions)

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

    async def close(self) -> None:
        self._stepper.stop()

    @abc.abstractmethod
    def _make_batch(self, checkpoint: Checkpoint, *, at_most: int) -> Batch:
        """Return a warm batch of as many places as the device carries."""
