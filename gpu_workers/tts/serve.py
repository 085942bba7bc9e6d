"""Kyutai's text-to-speech on a rented machine."""

from __future__ import annotations

from gpu_workers.images import ENGINES, WORKERS, Recipe, with_packages, with_source

RECIPE = Recipe(
    kind="tts",
    lists=(*WORKERS, *ENGINES),
    image=with_source(with_packages(*ENGINES, on=with_packages(*WORKERS))),
    gpu="L4, A10",
    cpu_millicores=2_000,
    memory_mib=10_240,
    sessions_per_container=4,
    startup_timeout_seconds=300,
)
