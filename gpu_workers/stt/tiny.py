"""A small random speech-to-text: `python -m gpu_workers.stt.tiny DIR` writes a checkpoint like the real one's.

What it hears makes no sense, and it steps a frame in some milliseconds on a CPU: for tests, and to try things out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moshi.models import loaders
from safetensors.torch import load, save_file

import gpu_workers.stt  # noqa: F401
from gpu_workers.moshi import tiny
from gpu_workers.stt.words import END_OF_PADDING, PADDING

LM: dict[str, Any] = {
    "n_q": tiny.CODEBOOKS,
    "dep_q": 0,
    "delays": [0] * (1 + tiny.CODEBOOKS),
    "extra_heads_num_heads": 4,
    "extra_heads_dim": 6,
}
STT_CONFIG = {"audio_silence_prefix_seconds": 0.0, "audio_delay_seconds": 0.5}
"""As of Kyutai's model of English and French."""

WORD_BOUNDARIES = 4.0
"""By how much the text tokens between words outweigh others, or words would hardly end."""


def write_checkpoint(folder: Path, *, seed: int = 1, stt_config: dict[str, float] | None = None, **lm: Any) -> Path:
    """Write a random checkpoint that moshi's own loaders read: weights, tokenizer and configuration.

    Args:
        lm: what the language model has otherwise than `LM`.
    """
    tiny.write_checkpoint(
        folder, seed=seed, lm={**LM, **lm}, model_type="stt", stt_config={**STT_CONFIG, **(stt_config or {})}
    )
    path = folder / loaders.MOSHI_NAME
    weights = load(path.read_bytes())
    weights["text_linear.weight"][[END_OF_PADDING, PADDING]] *= WORD_BOUNDARIES
    save_file(weights, path)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gpu_workers.stt.tiny", description=__doc__)
    parser.add_argument("folder", type=Path)
    print(write_checkpoint(parser.parse_args().folder))


if __name__ == "__main__":
    main()
