"""A small random Moshi, shared by the tests of one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.moshi.tiny import write_checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def moshi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("moshi") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(moshi_folder: Path) -> Iterator[Checkpoint]:
    yield checkpoints.load(moshi_folder)
