"""A small random speech-to-text, shared by the tests of one run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.stt.tiny import write_checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def stt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("stt") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(stt_folder: Path) -> Checkpoint:
    return checkpoints.load(stt_folder)
