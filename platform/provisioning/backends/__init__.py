"""Where pools can run: one registry from name to class, and opening one.

A new backend is a folder beside `local/`, with a class that keeps the contract and has `from_settings()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from types import TracebackType
from typing import Any, Self

from provisioning.backends.contract import Backend, DeploymentSpec

BACKENDS = {
    "local": "provisioning.backends.local.backend.LocalBackend",
    "modal": "provisioning.backends.modal.backend.ModalBackend",
}

PRESETS = {"modal": "provisioning.backends.modal.presets"}
"""Where it is said what pools have that name nothing, for backends on which that is not nothing."""

FOLLOW_SECONDS = {"modal": 15.0}
"""How long to leave a standing deployment alone that needs nothing: a provider far away counts its requests."""

ORPHANS_SECONDS = {"modal": 60.0}
"""How often to look for what nobody wants, likewise: each of an account's deployments is asked for its labels."""


OWN_ACCOUNTS = {"modal": ("token_id", "token_secret")}
"""Backends on which a tenant may bring an account of its own, and what its credentials consist of."""


class BackendUnknown(LookupError):
    """No backend of this name is installed."""


def make_backend(name: str) -> Backend:
    """Return a backend by its registered name, to be used as an async context manager."""
    if name not in BACKENDS:
        raise BackendUnknown(f"There is no backend {name!r}: choose one of {', '.join(BACKENDS)}.")
    module, _, attribute = BACKENDS[name].rpartition(".")
    return getattr(importlib.import_module(module), attribute).from_settings()


def complete(backend: str, spec: DeploymentSpec) -> DeploymentSpec:
    """Return a specification with what this backend puts in where the pool names nothing."""
    if backend not in PRESETS:
        return spec
    completed: DeploymentSpec = importlib.import_module(PRESETS[backend]).complete(spec)
    return completed


def pool_presets(backend: str, worker: str) -> dict[str, Any]:
    """Return fields that a new pool of this worker begins with on this backend."""
    if backend not in PRESETS:
        return {}
    presets: dict[str, Any] = importlib.import_module(PRESETS[backend]).of_pool(worker)
    return presets


class OpenBackends:
    """The backends that a long-lived process talks to: opened when first asked for, closed together."""

    def __init__(self) -> None:
        self._open: dict[str, Backend] = {}
        self._stack = contextlib.AsyncExitStack()
        self._lock = asyncio.Lock()

    async def get(self, name: str) -> Backend:
        async with self._lock:
            if name not in self._open:
                self._open[name] = await self._stack.enter_async_context(make_backend(name))
            return self._open[name]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._open.clear()
