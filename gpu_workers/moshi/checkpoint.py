"""A folder with Moshi's weights, read with moshi's own loaders. Nothing is downloaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from moshi.models import LMModel, MimiModel, loaders


class CheckpointError(ValueError):
    """A folder does not hold what this worker needs. The sentence says what."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    mimi: MimiModel
    lm: LMModel
    tokenizer: sentencepiece.SentencePieceProcessor
    sampling: dict[str, Any]
    """What the checkpoint asks of moshi's LMGen: temperatures and the like."""
    config: dict[str, Any]
    """config.json as it stands."""
    folder: Path

    @property
    def device(self) -> torch.device:
        return self.lm.device


def load(folder: str | Path, *, device: str | None = None) -> Checkpoint:
    """Load a checkpoint.

    Args:
        device: cpu, cuda, …; None takes a GPU where there is one. Weights are bfloat16 on a GPU, float32 on a CPU.

    Raises:
        CheckpointError: the folder lacks a file, or a file is not of its form.
    """
    folder = Path(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    config = _read_config(folder)
    info = loaders.CheckpointInfo.from_hf_repo(
        "",
        moshi_weights=_file(folder, config, "moshi_name", loaders.MOSHI_NAME),
        mimi_weights=_file(folder, config, "mimi_name", loaders.MIMI_NAME),
        tokenizer=_file(folder, config, "tokenizer_name", loaders.TEXT_TOKENIZER_NAME),
        config_path=folder / "config.json",
        mimi_config_path=_file(folder, config, "mimi_config_name", None),
        lora_weights=_file(folder, config, "lora_name", None),
    )
    try:
        return Checkpoint(
            mimi=info.get_mimi(device),
            lm=info.get_moshi(device, dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32),
            tokenizer=info.get_text_tokenizer(),
            sampling=info.lm_gen_config,
            config=config,
            folder=folder,
        )
    except (RuntimeError, KeyError, TypeError, AssertionError, OSError) as problem:
        raise CheckpointError(f"The weights in {folder} do not fit its config.json: {problem}") from problem


def first_config() -> dict[str, Any]:
    """Return a config.json for a folder of Moshi 7B that has none, as Kyutai first published them."""
    return {
        **loaders._lm_kwargs,
        "moshi_name": loaders.MOSHI_NAME,
        "mimi_name": loaders.MIMI_NAME,
        "tokenizer_name": loaders.TEXT_TOKENIZER_NAME,
        "model_type": "moshi",
    }


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no config.json: is it the folder of a checkpoint?") from None
    except ValueError as problem:
        raise CheckpointError(f"{folder / 'config.json'} is not JSON: {problem}") from problem
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / 'config.json'} is not an object.")
    return config


def _file(folder: Path, config: dict[str, Any], key: str, default: str | None) -> Path | None:
    """Return where a file of the checkpoint is; None where the configuration names none.

    Raises:
        CheckpointError: it is not there.
    """
    name = config.get(key, default)
    if name is None:
        return None
    path = folder / Path(str(name)).name
    if not path.exists():
        raise CheckpointError(f"{folder} lacks {path.name}.")
    return path
