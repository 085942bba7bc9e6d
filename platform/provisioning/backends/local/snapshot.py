"""The local backend's snapshot: a parent process that has loaded everything, and forks a container when asked."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from provisioning.backends.local.workers import (
    Launcher,
    Output,
    StartFailed,
    StartOrder,
    WorkerProcess,
    kill,
    start_forked,
)

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0


class Snapshot:
    """Keeps one loaded parent running, and loads it again when it has died; containers start cold meanwhile."""

    def __init__(
        self,
        launcher: Launcher,
        *,
        worker: str,
        checkpoint: str,
        max_sessions: int,
        socket_path: Path,
        log_path: Path,
        load_seconds: float,
    ) -> None:
        self.state = "making"
        self._launcher = launcher
        self._arguments = [
            f"{launcher.package}.zygote",
            worker,
            "--socket",
            str(socket_path),
            "--max-sessions",
            str(max_sessions),
            *(["--checkpoint", checkpoint] if checkpoint else []),
        ]
        self._worker = worker
        self._socket_path = socket_path
        self._log_path = log_path
        self._load_seconds = load_seconds
        self._first_outcome = asyncio.Event()
        self._running = asyncio.create_task(self._run(), name=f"snapshot of {worker}")

    async def wait_for_first_load(self) -> bool:
        """Wait while the parent loads for the first time; return whether it can fork now."""
        await self._first_outcome.wait()
        return self.state == "made"

    async def fork(self, order: StartOrder) -> WorkerProcess:
        """Start a container from the loaded parent.

        Raises:
            StartFailed
        """
        return await start_forked(self._socket_path, order)

    async def close(self) -> None:
        """Stop the parent. Its children live on: they belong to their containers."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            lived_seconds = await self._live()
            # One that lived for long was lost by accident; one that dies at once would be loaded again without end.
            pause_seconds = FIRST_PAUSE_SECONDS if lived_seconds > LONGEST_PAUSE_SECONDS else pause_seconds
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    async def _live(self) -> float:
        """Load a parent and stay with it until it ends; return how many seconds it could fork."""
        self.state = "making"
        process = None
        try:
            self._socket_path.unlink(missing_ok=True)
            process = await self._launcher.launch(*self._arguments, log_path=self._log_path)
            output = Output(process, self._log_path)
            async with asyncio.timeout(self._load_seconds):
                document = await output.read_document("loaded")
            logger.info("snapshot of %s is made in %s ms", self._worker, document.get("load_ms", "?"))
            self.state, made = "made", time.monotonic()
            self._first_outcome.set()
            await output.keep_rest()
            logger.warning("snapshot of %s is lost and is made again", self._worker)
            return time.monotonic() - made
        except (StartFailed, OSError) as problem:  # a timeout is an OSError
            logger.warning("snapshot of %s could not be made: %s", self._worker, str(problem) or "it took too long")
            return 0.0
        finally:
            self.state = "failed"
            self._first_outcome.set()
            if process is not None:
                await kill(process)
