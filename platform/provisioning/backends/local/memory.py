"""What a supervisor is to run, kept in a file: after a restart it does not wait to be told anew."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from provisioning.backends.contract import Autoscaling, DeploymentSpec
from provisioning.backends.local.documents import read_autoscaling

logger = logging.getLogger("provisioning.supervisor")


def recall(path: Path) -> list[tuple[DeploymentSpec, Autoscaling]]:
    """Return what was kept. What cannot be read is left out: reconcile brings it back."""
    try:
        documents = json.loads(path.read_text())
        return [
            (DeploymentSpec.from_document(document["spec"]), read_autoscaling(document["autoscaling"]))
            for document in documents
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as problem:
        logger.warning("%s cannot be read, and its deployments must be asked for anew: %r", path, problem)
        return []


def remember(path: Path, deployments: Iterable[tuple[DeploymentSpec, Autoscaling]]) -> None:
    """Keep these in place of what was kept before. A disk that is full is no reason not to run them."""
    documents = [
        {"spec": spec.to_document(), "autoscaling": dataclasses.asdict(autoscaling)}
        for spec, autoscaling in deployments
    ]
    written = path.with_suffix(".new")
    try:
        written.write_text(json.dumps(documents))
        os.replace(written, path)
    except OSError as problem:
        logger.error("what is to run could not be kept: %s", problem)
