"""Finding a worker for a call: its first one, or another in a lost one's stead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import structlog
from psycopg_pool import AsyncConnectionPool

from gpu_workers.protocol import Service
from provisioning.backends import OpenBackends
from voice.admission import Admitted
from voice.calls import DATABASE_AWAY
from voice.held import HeldSession
from voice.ongoing import OngoingCall
from voice.options import Options
from voice.reaching import reached_worker
from voice.sockets import WorkerSocket, WorkerUnavailable
from voice.starting import parts_of, services_of, start_of

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 4.0


class Search:
    """Holds the place of a call's worker, and the search for one. `again`: the place it had with another gateway."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        backends: OpenBackends,
        admitted: Admitted,
        call: OngoingCall,
        options: Options,
        *,
        again: HeldSession | None = None,
    ) -> None:
        self._pool = pool
        self._backends = backends
        self._admitted = admitted
        self._call = call
        self._options = options
        self._again = again
        self._services: dict[str, Service] | None = None
        self._running: asyncio.Task[WorkerSocket] | None = None
        self._held = contextlib.AsyncExitStack()

    async def find(self, *, patience_seconds: float = 0.0) -> WorkerSocket:
        """Return a worker that can talk; cancelled, the search goes on for who asks next.

        Args:
            patience_seconds: how long all places are tried anew where every one refuses.

        Raises:
            WorkerUnavailable
        """
        # A task of its own: what a container has cost to start is not thrown away because the caller's line is gone.
        if self._running is None:
            self._running = asyncio.create_task(self._run(patience_seconds), name="find a worker")
        worker = await asyncio.shield(self._running)
        self._running = None
        return worker

    def let_go(self) -> Coroutine[Any, Any, None]:
        """Forget the place that is held; what is returned gives it back."""
        held, self._held = self._held, contextlib.AsyncExitStack()
        return held.aclose()

    async def close(self) -> None:
        """Stop searching, and give back what is held."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._held.aclose()

    async def _run(self, patience_seconds: float) -> WorkerSocket:
        deadline, pause = time.monotonic() + patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                if self._services is None:
                    self._services = await self._find_services()
                again, self._again = self._again, None
                return await self._held.enter_async_context(
                    reached_worker(
                        self._pool,
                        self._backends,
                        self._call,
                        self._admitted.engine,
                        start_of(self._admitted, self._call, self._options, self._services),
                        parts_of(self._admitted.config),
                        self._options,
                        again=again,
                    )
                )
            except WorkerUnavailable as problem:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("worker.unavailable", problem=str(problem))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _find_services(self) -> dict[str, Service]:
        try:
            return await services_of(self._pool, self._admitted, self._options)
        except DATABASE_AWAY as problem:
            raise WorkerUnavailable("The keys of managed services cannot be read now.") from problem
