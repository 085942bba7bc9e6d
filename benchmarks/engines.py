"""How many streams one device carries: `python -m benchmarks.engines [--kind moshi] [--checkpoint DIR] [--places 1 4]`.

Steps batches of growing size with all places taken, beside Moshi's own way of one stream at a time. Without a
checkpoint a small random one is stepped: it shows how the batch scales, not how fast a real model is.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.figures import percentile
from gpu_workers import sizing
from gpu_workers.moshi import checkpoint as checkpoints
from gpu_workers.moshi import tiny as tiny_moshi
from gpu_workers.moshi.batch import MoshiBatch
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.stt import tiny as tiny_stt
from gpu_workers.stt.batch import SttBatch
from gpu_workers.tts import tiny as tiny_tts
from gpu_workers.tts.batch import TtsBatch

MAKE: dict[str, Callable[[Checkpoint, int], sizing.Batch]] = {
    "moshi": lambda checkpoint, places: MoshiBatch(checkpoint, places=places),
    "stt": lambda checkpoint, places: SttBatch(checkpoint, places=places),
    "tts": lambda checkpoint, places: TtsBatch(checkpoint, places=places),
}
TINY = {"moshi": tiny_moshi.write_checkpoint, "stt": tiny_stt.write_checkpoint, "tts": tiny_tts.write_checkpoint}
FRAMES = 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--kind", choices=sorted(MAKE), nargs="+", default=sorted(MAKE))
    parser.add_argument("--checkpoint", type=Path, help="of the one kind; without it a small random one")
    parser.add_argument("--places", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for kind in arguments.kind:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = checkpoints.load(arguments.checkpoint or TINY[kind](Path(folder)))
            rows += measure(kind, checkpoint, arguments.places)
    if arguments.json:
        print(json.dumps(rows))
        return
    print("kind   stepped by     places   frame p50 ms   p99 ms   streams in real time   ms a stream   memory GiB")
    for row in rows:
        print(
            f"{row['kind']:<6} {row['by']:<14} {row['places']:6}   {row['p50_ms']:12.1f} {row['p99_ms']:8.1f}"
            f"   {row['real_time_streams']:20}   {row['p50_ms'] / row['places']:11.2f}   {row['memory_gib']:10.2f}"
        )


def measure(kind: str, checkpoint: Checkpoint, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Yield a row for each size of batch, and for moshi one more for its own server's way."""
    if kind == "moshi":
        yield _row(kind, "moshi's own", 1, _own_steps(checkpoint))
    for places in sizes:
        gc.collect()
        batch = MAKE[kind](checkpoint, places)
        try:
            work = batch.fill()
            yield _row(kind, "batch", places, _timed(lambda batch=batch, work=work: batch.step(work)))
        finally:
            batch.close()


def _own_steps(checkpoint: Checkpoint) -> list[float]:
    """Step one stream as `moshi.server` does, and return the seconds that each frame took."""
    from moshi.models import LMGen

    mimi, generation = checkpoint.mimi, LMGen(checkpoint.lm, **checkpoint.sampling)
    frame = torch.from_numpy(sizing.noise(mimi.frame_size))[None, None]

    def step() -> None:
        codes = mimi.encode(frame.to(checkpoint.device))
        if (tokens := generation.step(codes)) is not None:
            mimi.decode(tokens[:, 1:]).cpu()

    with torch.inference_mode(), mimi.streaming(1), generation.streaming(1):
        return _timed(step)


def _timed(step: Callable[[], object]) -> list[float]:
    for _ in range(sizing.WARM_UP_FRAMES):
        step()
    seconds = []
    for _ in range(FRAMES):
        began_at = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began_at)
    return seconds


def _row(kind: str, by: str, places: int, seconds: list[float]) -> dict[str, Any]:
    p99 = percentile(seconds, 0.99)
    return {
        "kind": kind,
        "by": by,
        "places": places,
        "p50_ms": float(np.median(seconds)) * 1000,
        "p99_ms": p99 * 1000,
        "real_time_streams": places if p99 < 0.08 else 0,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
    }


if __name__ == "__main__":
    main()
