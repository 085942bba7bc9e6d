"""A worker as a Modal Server: what a snapshot holds is loaded first, the identity comes after the restore.

The classes are not decorated here: each App decorates them with the settings of its pool. What a container is to run
stands in its environment (see `environment`), the same for all containers of an App, as a snapshot demands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modal

from gpu_workers.protocol import BootKind

# What serves is imported in the container alone: the platform knows these classes to deploy them.
if TYPE_CHECKING:
    from gpu_workers.engine import Engine
    from gpu_workers.http_engine import HttpEngine

logger = logging.getLogger(__name__)

PORT = 8000
DRAIN_MARGIN_SECONDS = 10.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def environment(
    *, kind: str, checkpoint: str, max_sessions: int, grace_seconds: int, startup_seconds: int
) -> Mapping[str, str]:
    """Return what tells a container which worker it is."""
    return {
        "WORKER_KIND": kind,
        "WORKER_CHECKPOINT": checkpoint,
        "WORKER_MAX_SESSIONS": str(max_sessions),
        "WORKER_GRACE_SECONDS": str(grace_seconds),
        "WORKER_STARTUP_SECONDS": str(startup_seconds),
    }


class ModalWorker:
    """Restored from a snapshot where there is one."""

    @modal.enter(snap=True)
    def load(self) -> None:
        self._engine = _load()
        self._loaded_in = _task()

    @modal.enter(snap=False)
    def serve(self) -> None:
        # Whoever makes the snapshot goes on by itself; all others wake in a container of another name.
        is_restored = _task() != self._loaded_in
        self._serving = Serving(self._engine, BootKind.RESTORED if is_restored else BootKind.COLD)

    @modal.exit()
    def drain(self) -> None:
        self._serving.stop()


class ColdModalWorker:
    """For pools without snapshots."""

    @modal.enter()
    def serve(self) -> None:
        self._serving = Serving(_load(), BootKind.COLD)

    @modal.exit()
    def drain(self) -> None:
        self._serving.stop()


class Serving:
    """An engine behind its port, on an event loop of its own: Modal's has other things to do. Serves once made.

    Raises:
        TimeoutError: it did not come up.
    """

    def __init__(self, engine: Engine | HttpEngine, boot: BootKind) -> None:
        self._engine, self._boot = engine, boot
        self._grace_seconds = float(os.environ["WORKER_GRACE_SECONDS"])
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)
        self._thread.start()
        if not self._ready.wait(float(os.environ["WORKER_STARTUP_SECONDS"])):
            raise TimeoutError("The worker did not come up in time.")

    def stop(self) -> None:
        """Take no more sessions, and wait for those that are there."""
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(self._grace_seconds + DRAIN_MARGIN_SECONDS)

    def _run(self) -> None:
        from gpu_workers import logs, process
        from gpu_workers.engine import Identity

        asyncio.set_event_loop(self._loop)
        logs.start_logging(container=_task())
        try:
            self._loop.run_until_complete(
                process.serve(
                    self._engine,
                    Identity(
                        container=_task(),
                        boot=self._boot,
                        max_sessions=int(os.environ["WORKER_MAX_SESSIONS"]),
                        # Modal lets nobody in without a session's token.
                        session_key=None,
                    ),
                    process.Address(os.environ.get("WORKER_HOST", "0.0.0.0"), PORT),
                    stopped=self._stopped,
                    ordered_ns=_ordered_ns(self._boot),
                    grace_seconds=self._grace_seconds,
                    report=self._report,
                )
            )
        except BaseException:
            logger.exception("the worker failed")
            os._exit(process.LOST_EXIT_CODE)  # another container is started in its place

    def _report(self, document: dict[str, Any]) -> None:
        self._ready.set()


def _load() -> Engine | HttpEngine:
    from gpu_workers import logs, process

    process.limit_threads()
    from gpu_workers import kinds, weights

    logs.start_logging(container="modal")  # its name is not known before the restore
    kind, checkpoint = os.environ["WORKER_KIND"], os.environ.get("WORKER_CHECKPOINT")
    engine = kinds.make_engine(
        kind,
        checkpoint=str(weights.find(checkpoint, worker=kind)) if checkpoint else None,
        max_sessions=int(os.environ["WORKER_MAX_SESSIONS"]),
    )
    engine.load()
    return engine


def _task() -> str:
    """Return the container's name on Modal."""
    return os.environ.get("MODAL_TASK_ID", "")


def _ordered_ns(boot: BootKind) -> int:
    """Return since when this container has been coming up, on the clock of `time.monotonic_ns`: as near as it can tell.

    A cold one since its process began, a restored one since Modal told it who it is.
    """
    if boot == BootKind.RESTORED:
        with_identity = Path(os.environ.get("MODAL_RESTORE_STATE_PATH", "/__modal/restore-state.json"))
        age_seconds = time.time() - with_identity.stat().st_mtime if with_identity.exists() else 0.0
    else:
        began_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - began_ticks / CLOCK_TICKS
    return time.monotonic_ns() - round(max(0.0, age_seconds) * 1e9)
