"""Kyutai's speech-to-text on a rented machine: a model of 1B, so that one GPU hears many callers."""

from __future__ import annotations

from gpu_workers.images import ENGINES, WORKERS, Recipe, with_packages, with_source

RECIPE = Recipe(
    kind="stt",
    lists=(*WORKERS, *ENGINES),
    image=with_source(with_packages(*ENGINES, on=with_packages(*WORKERS))),
    gpu="L4, A10",
    cpu_millicores=2_000,
    memory_mib=8_192,
    sessions_per_container=16,
    startup_timeout_seconds=300,
)
