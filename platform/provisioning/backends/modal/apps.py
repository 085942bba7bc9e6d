"""The Modal App of a deployment: one Server with the settings of its pool. Nothing is asked of Modal here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import modal

from gpu_workers import modal_worker, weights
from provisioning.backends.contract import Autoscaling, DeploymentSpec

SERVER_NAME = "worker"
PASSED_PREFIXES = ("LLM_", "OTEL_")
"""What the operator set for all workers, on any backend."""
COMPUTE_REGIONS = {"ca-central": "ca"}
"""Where containers run, for routing regions that are called otherwise."""


@dataclasses.dataclass(frozen=True, slots=True)
class Installation:
    """What is the same for all of an installation's Apps."""

    modal_environment: str = ""
    """Modal's own environment; empty for the workspace's default."""


def make_app(spec: DeploymentSpec, autoscaling: Autoscaling, installation: Installation) -> modal.App:
    """Return the App of a complete specification. It names its image, volume and secrets, and builds nothing.

    Raises:
        modal.exception.InvalidError: a setting that Modal's SDK does not take.
    """
    app = modal.App(spec.name, tags=spec.tags, include_source=False)
    worker = modal_worker.ModalWorker if spec.snapshots else modal_worker.ColdModalWorker
    app.server(**server_settings(spec, autoscaling, installation))(modal.sessioned()(worker))
    return app


def server_settings(spec: DeploymentSpec, autoscaling: Autoscaling, installation: Installation) -> dict[str, Any]:
    """Return the arguments of `modal.App.server`."""
    settings: dict[str, Any] = {
        "name": SERVER_NAME,
        "image": modal.Image.from_name(spec.image, environment_name=installation.modal_environment or None),
        "secrets": [modal.Secret.from_dict(dict(_secrets(spec)))],
        "cpu": spec.cpu_millicores / 1000,
        "memory": spec.memory_mib,
        "port": modal_worker.PORT,
        "max_concurrency": spec.sessions_per_container,
        "target_concurrency": spec.sessions_per_container,
        "startup_timeout": spec.startup_timeout_seconds,
        "exit_grace_period": spec.exit_grace_seconds,
        "routing_region": spec.region,
        "compute_region": COMPUTE_REGIONS.get(spec.region, spec.region),
        "enable_memory_snapshot": spec.snapshots,
        **autoscaler_settings(autoscaling),
    }
    if spec.gpu:
        settings["gpu"] = list(spec.gpu) if len(spec.gpu) > 1 else spec.gpu[0]
        if spec.snapshots:
            settings["experimental_options"] = {"enable_gpu_snapshot": True}
    if spec.checkpoint:
        volume = modal.Volume.from_name(weights.VOLUME_NAME, environment_name=installation.modal_environment or None)
        settings["volumes"] = {weights.MOUNTED_AT: volume.with_mount_options(read_only=True)}
    return settings


def autoscaler_settings(autoscaling: Autoscaling) -> dict[str, int]:
    """Return what Modal's autoscaler is told, at a deploy and live."""
    return {
        "min_containers": autoscaling.min_containers,
        "buffer_containers": autoscaling.buffer_containers,
        "max_containers": autoscaling.max_containers,
        "scaledown_window": autoscaling.scaledown_window_seconds,
    }


def _secrets(spec: DeploymentSpec) -> Mapping[str, str]:
    """Return the environment of an App's containers. The keys of managed services are not in it: calls bring them."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_PREFIXES) and value}
    return {
        **passed,
        **modal_worker.environment(
            kind=spec.worker,
            checkpoint=spec.checkpoint,
            max_sessions=spec.sessions_per_container,
            grace_seconds=spec.exit_grace_seconds,
            startup_seconds=spec.startup_timeout_seconds,
        ),
    }
