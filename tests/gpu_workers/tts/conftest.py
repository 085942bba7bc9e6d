"""A small random text-to-speech, shared by the tests of one run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.tts.tiny import write_checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tts") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(tts_folder: Path) -> Checkpoint:
    return checkpoints.load(tts_folder)
