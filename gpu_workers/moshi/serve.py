"""Moshi on a rented machine. Its 7B weights and a few conversations fit a GPU of 24 GB; batches want a larger one."""

from __future__ import annotations

from gpu_workers.images import ENGINES, WORKERS, Recipe, with_packages, with_source

RECIPE = Recipe(
    kind="moshi",
    lists=(*WORKERS, *ENGINES),
    image=with_source(with_packages(*ENGINES, on=with_packages(*WORKERS))),
    gpu="L4, A10",
    cpu_millicores=2_000,
    memory_mib=24_576,
    sessions_per_container=4,
    startup_timeout_seconds=600,
)
