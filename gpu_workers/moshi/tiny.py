"""A small random Moshi: `python -m gpu_workers.moshi.tiny DIR` writes a checkpoint as the real one's folder looks.

It says nothing that makes sense, and steps a frame in some milliseconds on a CPU: for tests, and to try things out.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
from moshi.models import MimiModel, loaders
from safetensors.torch import save_file

from gpu_workers.tiny_tokenizer import write_tokenizer

TEXT_CARD = 200
CODEBOOKS = 8
BINS = 32
HEARD_FRAMES = 64
"""How much noise the encoder is fitted to."""

MIMI: dict[str, Any] = {
    "sample_rate": loaders.SAMPLE_RATE,
    "channels": 1,
    "frame_rate": loaders.FRAME_RATE,
    "seanet": {**loaders._seanet_kwargs, "dimension": 16, "n_filters": 2},
    "quantizer": {
        **loaders._quantizer_kwargs,
        "dimension": 8,
        "n_q": CODEBOOKS,
        "bins": BINS,
        "input_dimension": 16,
        "output_dimension": 16,
    },
    "transformer": {
        **loaders._transformer_kwargs,
        "d_model": 16,
        "num_heads": 2,
        "num_layers": 1,
        "dim_feedforward": 32,
        "input_dimension": 16,
        "output_dimensions": [16],
    },
}

LM: dict[str, Any] = {
    **loaders._lm_kwargs,
    "dim": 32,
    "text_card": TEXT_CARD,
    "card": BINS,
    "num_heads": 2,
    "num_layers": 2,
    "context": 200,
    "depformer_dim": 16,
    "depformer_dim_feedforward": 32,
    "depformer_num_heads": 2,
    "depformer_num_layers": 1,
}


def write_checkpoint(folder: Path, *, seed: int = 1, lm: dict[str, Any] | None = None, **config: Any) -> Path:
    """Write a random checkpoint that moshi's own loaders read: weights, tokenizer and configuration.

    Args:
        lm: what the language model has otherwise than `LM`.
        config: further keys of config.json, such as `model_type`.
    """
    shape = {**LM, **(lm or {})}
    folder.mkdir(parents=True, exist_ok=True)
    write_mimi(folder / loaders.MIMI_NAME, seed=seed)
    (folder / "mimi.json").write_text(json.dumps(MIMI))
    torch.manual_seed(seed)
    weights = loaders.get_moshi_lm(None, copy.deepcopy(shape), dtype=torch.float32).state_dict()
    save_file(weights, folder / loaders.MOSHI_NAME)
    write_tokenizer(folder / loaders.TEXT_TOKENIZER_NAME, size=TEXT_CARD)
    names = {
        "moshi_name": loaders.MOSHI_NAME,
        "mimi_name": loaders.MIMI_NAME,
        "mimi_config_name": "mimi.json",
        "tokenizer_name": loaders.TEXT_TOKENIZER_NAME,
        "model_type": "moshi",
    }
    (folder / "config.json").write_text(json.dumps({**shape, **names, **config}, indent=1))
    return folder


def write_mimi(path: Path, *, seed: int = 1) -> None:
    """Write a random Mimi, the codec that turns sound into tokens and back."""
    torch.manual_seed(seed)
    mimi = loaders.get_mimi(None, MIMI, num_codebooks=CODEBOOKS)
    for name, buffer in mimi.named_buffers():
        # A codebook begins empty, as one that was never trained.
        if name.endswith("embedding_sum"):
            buffer.copy_(torch.randn_like(buffer))
        elif name.endswith(("cluster_usage", "_initialized")):
            buffer.fill_(1)
    _make_hear(mimi)
    save_file(mimi.state_dict(), path)


@torch.inference_mode()
def _make_hear(mimi: MimiModel) -> None:
    """Spread what the encoder gives for noise over the codebooks, or all that is heard would get the same tokens."""
    for name, parameter in mimi.named_parameters():
        if name.startswith("encoder.") and name.endswith("bias"):
            parameter.zero_()
    loudness = torch.linspace(0, 0.5, HEARD_FRAMES * mimi.frame_size)
    latent = mimi.encode_to_latent((loudness * torch.randn_like(loudness))[None, None], quantize=False)
    quantizers: Any = mimi.quantizer
    for quantizer in (quantizers.rvq_first, quantizers.rvq_rest):
        quantizer.input_proj.weight /= quantizer.input_proj(latent).std()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gpu_workers.moshi.tiny", description=__doc__)
    parser.add_argument("folder", type=Path)
    print(write_checkpoint(parser.parse_args().folder))


if __name__ == "__main__":
    main()
