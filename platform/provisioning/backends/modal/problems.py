"""What goes wrong at Modal, in the contract's words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from modal import exception

from provisioning.backends.contract import (
    AtCapacity,
    BackendError,
    BackendUnreachable,
    CredentialsRefused,
    DeploymentRefused,
    DeploymentUnknown,
    QuotaReached,
)

MOST_CHARACTERS = 300
FULL = ("status 429", "status 503")
"""How Modal's SDK tells that no container has room, and none may be added."""


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
    match problem:
        case exception.AuthError() | exception.PermissionDeniedError():
            return CredentialsRefused(f"Modal refuses the credentials: {told}")
        case exception.NotFoundError() if "image" in told.lower():
            return DeploymentRefused(f"An image is missing, which `manage.py build_images` publishes: {told}")
        case exception.NotFoundError() if "volume" in told.lower():
            return DeploymentRefused(f"The weights are missing, which `manage.py fetch_weights` stores: {told}")
        case exception.NotFoundError():
            return DeploymentUnknown(f"Modal knows no such deployment: {told}")
        case exception.ResourceExhaustedError():
            return QuotaReached(f"The Modal workspace is at a limit: {told}")
        case exception.RemoteError():
            return DeploymentRefused(f"Modal could not build the image: {told}")
        case exception.InvalidError():
            return DeploymentRefused(f"Modal refuses these settings: {told}")
        case exception.ExecutionError() if any(status in told for status in FULL):
            return AtCapacity("All containers that this deployment may have are full.")
        case _:
            return BackendUnreachable(f"Modal does not answer: {told or type(problem).__name__}")
