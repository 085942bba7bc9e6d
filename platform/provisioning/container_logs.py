"""Reading what a container wrote, for pages."""

from __future__ import annotations

from asgiref.sync import async_to_sync

from provisioning.backends import make_backend
from provisioning.backends.contract import BackendError
from provisioning.models import Container


def read_container_log(container: Container, *, max_bytes: int = 65_536) -> str:
    """Return the end of a container's log; empty where it is no longer kept, or its backend is away."""
    deployment = container.deployment

    async def read() -> str:
        async with make_backend(deployment.backend) as backend:
            return await backend.read_log(deployment.ref, container.name, max_bytes=max_bytes)

    try:
        return async_to_sync(read)()
    except BackendError:
        return ""
