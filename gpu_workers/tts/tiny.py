"""A small random text-to-speech: `python -m gpu_workers.tts.tiny DIR` writes a checkpoint like the real one's.

What it says makes no sense, and it steps a frame in some milliseconds on a CPU: for tests, and to try things out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import gpu_workers.tts  # noqa: F401
from gpu_workers.moshi import tiny

VOICE_DIMENSION, VOICE_FRAMES = 12, 5
VOICES = ("calm", "bright")
SIGNATURE, EPOCH = "ab12", 7

LM: dict[str, Any] = {
    "n_q": tiny.CODEBOOKS,
    "dep_q": tiny.CODEBOOKS,
    "delays": [0, 0] + [2] * (tiny.CODEBOOKS - 1),
    "cross_attention": True,
    "demux_second_text_stream": True,
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": VOICE_DIMENSION}},
        "cfg": {
            "type": "lut",
            "lut": {"n_bins": 3, "dim": 4, "tokenizer": "noop", "possible_values": ["1.0", "2.0", "3.0"]},
        },
        "control": {"type": "lut", "lut": {"n_bins": 1, "dim": 4, "tokenizer": "noop", "possible_values": ["ok"]}},
    },
    "fuser": {"cross_attention_pos_emb": False, "cross": ["speaker_wavs"], "sum": ["control", "cfg"]},
}
TTS_CONFIG = {"audio_delay": 0.64, "second_stream_ahead": 2}
"""As of Kyutai's model of English and French, but for a shorter delay (there 1.28 s)."""


def write_checkpoint(folder: Path, *, seed: int = 1, tts_config: dict[str, Any] | None = None, **lm: Any) -> Path:
    """Write a random checkpoint that moshi's own loaders read: weights, tokenizer, configuration, and voices.

    Args:
        lm: what the language model has otherwise than `LM`.
    """
    tiny.write_checkpoint(
        folder,
        seed=seed,
        lm={**LM, **lm},
        model_type="tts",
        model_id={"sig": SIGNATURE, "epoch": EPOCH},
        tts_config={**TTS_CONFIG, "default_voice": VOICES[0], **(tts_config or {})},
    )
    (folder / "voices").mkdir(exist_ok=True)
    for number, name in enumerate(VOICES):
        voice = torch.randn(1, VOICE_DIMENSION, VOICE_FRAMES, generator=torch.Generator().manual_seed(seed + number))
        save_file({"speaker_wavs": voice}, folder / "voices" / f"{name}.{SIGNATURE}@{EPOCH}.safetensors")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gpu_workers.tts.tiny", description=__doc__)
    parser.add_argument("folder", type=Path)
    print(write_checkpoint(parser.parse_args().folder))


if __name__ == "__main__":
    main()
