"""What a workspace lacks to run pools, each with the command that mends it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable

from gpu_workers import weights
from provisioning.backends.modal.workspace import Workspace


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """What the pools of a worker name: an image, and weights where it has any."""

    worker: str
    image: str
    checkpoint: str


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    what: str
    command: str


async def missing_in(workspace: Workspace, needs: Iterable[Need]) -> AsyncIterator[Missing]:
    """Yield what a workspace lacks, each thing once.

    Raises:
        BackendError: it cannot be asked.
    """
    needs = list(needs)
    for worker, image in dict.fromkeys((need.worker, need.image) for need in needs):
        if not await workspace.has_image(image):
            yield Missing(f"the image {image}", f"manage.py build_images --worker {worker}")
    for worker, checkpoint in dict.fromkeys((need.worker, need.checkpoint) for need in needs if need.checkpoint):
        if not await workspace.has_weights(checkpoint):
            yield Missing(f"the weights {checkpoint}", weights.command(checkpoint, worker=worker))
