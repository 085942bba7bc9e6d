"""What goes wrong at Modal, in the contract's words, each with a sentence that says who can mend it, and how."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from modal import exception

from gpu_workers import weights
from provisioning.backends.contract import (
    AtCapacity,
    BackendError,
    BackendUnreachable,
    CredentialsRefused,
    DeploymentRefused,
    DeploymentUnknown,
    QuotaReached,
    SessionUnavailable,
)
from provisioning.backends.modal import raw

MOST_CHARACTERS = 300
FULL = ("status 429", "status 503")
"""How Modal's SDK tells that no container has room, and none may be added."""
STOPPED = ("disabled", "suspended", "stopped", "deactivated", "locked", "spend limit", "budget", "payment")
"""Words that tell of a workspace in which nothing may run, whatever the status is. Modal documents none."""


class ImageMissing(DeploymentRefused):
    """No image of this name and version is published."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The workers' image {name} is not in the workspace: `manage.py build_images` publishes it.")


class ImageBuildFailed(DeploymentRefused):
    """An image could not be built: its log says why."""


class WeightsMissing(DeploymentRefused):
    """A checkpoint is not on the volume of weights, or not all of it."""

    def __init__(self, checkpoint: str, *, worker: str) -> None:
        super().__init__(weights.missing(checkpoint, worker=worker))


class WeightsRefused(DeploymentRefused):
    """A checkpoint cannot be had: the model hub does not know it, or does not give it to us."""


class GpuRefused(DeploymentRefused):
    """Modal has no such GPU, or not for this workspace."""


class Throttled(BackendUnreachable):
    """Too many requests at once: the next ones will do."""


class WorkspaceStopped(BackendUnreachable):
    """Nothing may run in the workspace for now. It says nothing of the deployments, which come back with it."""


@contextlib.asynccontextmanager
async def named(*, within_seconds: float) -> AsyncIterator[None]:
    """Give what is asked of Modal a limit, and its errors the contract's names.

    Raises:
        BackendError
    """
    try:
        async with asyncio.timeout(within_seconds):
            yield
    except BackendError:
        raise
    except (exception.Error, TimeoutError, OSError, aiohttp.ClientError) as problem:
        raise as_ours(problem) from problem


def as_ours(problem: Exception) -> BackendError:
    """Return the contract's error for one of Modal's SDK."""
    told = " ".join(str(problem).split())[:MOST_CHARACTERS]
    if isinstance(problem, exception.Error) and _tells_of_a_stopped_workspace(told):
        return WorkspaceStopped(
            f"The Modal workspace is stopped, and pools come back once it runs again; see its page on Modal: {told}"
        )
    match problem:
        case exception.AuthError() | exception.PermissionDeniedError():
            return CredentialsRefused(f"Modal refuses the credentials: {told}")
        case exception.NotFoundError() if "image" in told.lower():
            return DeploymentRefused(f"An image is missing, which `manage.py build_images` publishes: {told}")
        case exception.NotFoundError() if "volume" in told.lower():
            return DeploymentRefused(f"The weights are missing, which `manage.py fetch_weights` stores: {told}")
        case exception.NotFoundError():
            return DeploymentUnknown(f"Modal knows no such deployment: {told}")
        case exception.ResourceExhaustedError() if raw.is_throttled(problem):
            return Throttled(f"Modal takes no more requests just now, and is asked again: {told}")
        case exception.ResourceExhaustedError():
            return QuotaReached(f"The Modal workspace is at a limit: {told}")
        case exception.ImageBuildError():
            return ImageBuildFailed(f"Modal could not build the image: {told}")
        case exception.ConflictError():
            return BackendError(f"Modal is busy with something that stands in the way: {told}")
        case exception.VersionError():
            return DeploymentRefused(f"Modal and this installation's SDK do not fit together: {told}")
        case exception.InvalidError() if "gpu" in told.lower():
            return GpuRefused(f"Modal refuses this GPU, choose another for the pool: {told}")
        case exception.InvalidError():
            return DeploymentRefused(f"Modal refuses these settings: {told}")
        case exception.ExecutionError() if any(status in told for status in FULL):
            return AtCapacity("All containers that this deployment may have are full.")
        case exception.ExecutionError() if "session" in told:
            return SessionUnavailable(f"Modal gave no session: {told}")
        case exception.RemoteError() | exception.ExecutionError() | exception.InternalFailure():
            return BackendError(f"A container on Modal failed: {told}")
        case TimeoutError():
            return BackendUnreachable("Modal did not answer in time.")
        case _:
            return BackendUnreachable(f"Modal does not answer: {told or type(problem).__name__}")


def _tells_of_a_stopped_workspace(told: str) -> bool:
    words = told.lower()
    return "workspace" in words and any(word in words for word in STOPPED)
