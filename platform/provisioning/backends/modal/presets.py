"""What a pool on Modal has where it names nothing: the image and the weights of this code, and a machine that fits."""

from __future__ import annotations

import dataclasses
from typing import Any

from gpu_workers import images, weights
from provisioning.backends.contract import DeploymentSpec


def complete(spec: DeploymentSpec) -> DeploymentSpec:
    """Return a specification that names its image and its weights.

    They are part of its hash: an installation that was brought up to date deploys its pools anew, beside the old ones.
    """
    return dataclasses.replace(
        spec,
        image=spec.image or images.image_name(spec.worker),
        checkpoint=spec.checkpoint or weights.DEFAULT_CHECKPOINTS.get(spec.worker, ""),
    )


def of_pool(worker: str) -> dict[str, Any]:
    """Return the fields of a new pool of this worker, as far as its kind says."""
    recipe = images.recipe_of(worker)
    return {
        "gpu": recipe.gpu,
        "cpu_millicores": recipe.cpu_millicores,
        "memory_mib": recipe.memory_mib,
        "sessions_per_container": recipe.sessions_per_container,
        "startup_timeout_seconds": recipe.startup_timeout_seconds,
    }
