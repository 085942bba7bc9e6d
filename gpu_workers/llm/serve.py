"""A language model on a rented machine: vLLM in an environment of its own, beside the worker that starts it.

While it sleeps for a snapshot its weights lie in the machine's memory, which is to hold them twice.
"""

from __future__ import annotations

import modal

from gpu_workers.images import REQUIREMENTS, WORKERS, Recipe, with_packages, with_source

VLLM = ("llm.txt",)
ENVIRONMENT = "/opt/vllm"


def _with_vllm(image: modal.Image) -> modal.Image:
    (name,) = VLLM
    return image.add_local_file(REQUIREMENTS / name, f"{ENVIRONMENT}.txt", copy=True).run_commands(
        f"python -m venv {ENVIRONMENT}",
        f"{ENVIRONMENT}/bin/python -m pip install --no-cache-dir --require-hashes --no-deps -r {ENVIRONMENT}.txt",
        f"ln -s {ENVIRONMENT}/bin/vllm /usr/local/bin/vllm",
    )


RECIPE = Recipe(
    kind="llm",
    lists=(*WORKERS, *VLLM),
    image=with_source(_with_vllm(with_packages(*WORKERS))),
    gpu="L40S",
    cpu_millicores=4_000,
    memory_mib=40_960,
    sessions_per_container=16,
    startup_timeout_seconds=900,
)
