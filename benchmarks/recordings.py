"""What it costs to make one file of a recorded call: `python -m benchmarks.recordings [--minutes 15]`.

Noise both ways, which takes Opus longest. Prints seconds of one core and megabytes of memory for each minute of call.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

import numpy as np  # noqa: E402  (Django must be set up first)
import sphn  # noqa: E402

from content.recordings import AGENT, CALLER, Entry  # noqa: E402
from gpu_workers.protocol import SAMPLE_RATE_HZ  # noqa: E402
from voice.muxing import mux  # noqa: E402

FRAME_SAMPLES, FRAME_MS = 960, 40


def entries(minutes: int) -> list[Entry]:
    """Return what a call of so many minutes leaves."""
    chance, made = np.random.default_rng(1), []
    for direction in (CALLER, AGENT):
        writer = sphn.OpusStreamWriter(SAMPLE_RATE_HZ)
        for at_ms in range(0, minutes * 60_000, FRAME_MS):
            if page := writer.append_pcm((0.1 * chance.standard_normal(FRAME_SAMPLES)).astype(np.float32)):
                made.append(Entry(direction, at_ms, page))
    return sorted(made, key=lambda entry: entry.at_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=15)
    minutes = parser.parse_args().minutes
    recorded = entries(minutes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    muxed = mux(recorded)
    seconds = (time.process_time() - began) / minutes
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 / minutes
    size = len(muxed.ogg_opus) / 1e6 / minutes
    print(
        f"For each of {minutes} minutes: {seconds:.1f} s of a core, {megabytes:.0f} MB of memory, {size:.2f} MB of file"
    )


if __name__ == "__main__":
    main()
