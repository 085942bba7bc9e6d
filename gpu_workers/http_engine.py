"""Engines that are spoken to in plain HTTP requests, not on a socket. A session is then who holds a session token."""

from __future__ import annotations

import abc

from aiohttp import web

from gpu_workers.engine import Identity
from gpu_workers.metrics import Metrics


class HttpEngine(abc.ABC):
    """One kind of worker, as gpu_workers.engine.Engine, but for how it is spoken to."""

    kind: str
    routes: tuple[tuple[str, str], ...]
    """Method and path of all that it answers."""

    @property
    @abc.abstractmethod
    def places(self) -> int:
        """How many sessions this engine can carry at once, known once it is loaded."""

    @abc.abstractmethod
    def load(self) -> None:
        """Load and warm up. Goes into the snapshot: reads no secret, takes no identity."""

    @abc.abstractmethod
    async def attach(self, identity: Identity, metrics: Metrics) -> None:
        """Take what differs between containers, and become able to answer."""

    @abc.abstractmethod
    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of a session."""

    @abc.abstractmethod
    async def wait_until_lost(self) -> str:
        """Return why, once it cannot answer any more; the process then ends, so that another takes its place."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let go of all that it has, loaded or attached."""
