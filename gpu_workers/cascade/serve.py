"""The cascade on a rented machine: two cores and no GPU, its models prepared in its image."""

from __future__ import annotations

import modal

from gpu_workers.images import PACKAGE, SOURCE, WORKERS, Recipe, with_packages, with_source

MODELS = "/models"
PREPARING = ("__init__.py", "cascade/__init__.py", "cascade/prepare.py")
"""All that preparing the models needs: it is done again when one of these changes, and not for the rest."""


def _image_with_models() -> modal.Image:
    image = with_packages(*WORKERS).env({"WARMLINE_MODELS_DIR": MODELS})
    for name in PREPARING:
        image = image.add_local_file(PACKAGE / name, f"{SOURCE}/gpu_workers/{name}", copy=True)
    return image.run_commands(f"cd {SOURCE} && python -m gpu_workers.cascade.prepare")


RECIPE = Recipe(
    kind="cascade",
    lists=WORKERS,
    image=with_source(_image_with_models()),
    gpu="",
    cpu_millicores=2_000,
    memory_mib=1_536,
    sessions_per_container=4,
    startup_timeout_seconds=120,
)
