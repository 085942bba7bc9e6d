"""The life of a worker process: attach, serve, say that it is ready, drain at SIGTERM.

Cold starts and restored ones meet here: both come with a loaded engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from aiohttp import web

from gpu_workers.engine import Engine, Identity
from gpu_workers.http_engine import HttpEngine
from gpu_workers.serving import Worker

logger = logging.getLogger(__name__)

# One thread per library: thread pools do not survive the fork of a loaded parent, and sessions share the cores anyway.
ONE_THREAD_EACH = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


LOST_EXIT_CODE = 1
INTERPRETER_TURN_SECONDS = 0.001
"""How long a model's thread may keep the interpreter from the event loop, which passes all sessions' audio on."""


def limit_threads() -> None:
    """Ask libraries for one thread each. Must run before numpy and its like are imported."""
    for name, value in ONE_THREAD_EACH.items():
        os.environ.setdefault(name, value)


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    """0 takes any free port."""


def run(
    engine: Engine | HttpEngine,
    identity: Identity,
    address: Address,
    *,
    ordered_ns: int,
    grace_seconds: float,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Attach the engine to `identity` and serve until SIGTERM or SIGINT, then drain.

    Args:
        ordered_ns: when this start was ordered, on the clock of `time.monotonic_ns`.
        report: called once, with what the supervisor wants to know, when calls can be taken.

    Raises:
        SystemExit: the engine cannot serve any more.
    """

    async def until_signalled() -> None:
        stopped = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stopped.set)
        await serve(
            engine,
            identity,
            address,
            stopped=stopped,
            ordered_ns=ordered_ns,
            grace_seconds=grace_seconds,
            report=report,
        )

    asyncio.run(until_signalled())


async def serve(
    engine: Engine | HttpEngine,
    identity: Identity,
    address: Address,
    *,
    stopped: asyncio.Event,
    ordered_ns: int,
    grace_seconds: float,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Attach the engine to `identity` and serve until `stopped` is set, then drain. See `run`.

    Raises:
        SystemExit: the engine cannot serve any more.
    """
    # A forked child has its parent's random state, and would make the same choices as its siblings.
    random.seed()
    np.random.seed()
    sys.setswitchinterval(INTERPRETER_TURN_SECONDS)
    identity = dataclasses.replace(identity, max_sessions=min(identity.max_sessions, engine.places))
    worker = Worker(engine, identity)
    lost: asyncio.Task[str] | None = None
    if isinstance(engine, HttpEngine):
        await engine.attach(identity, worker.metrics)
        lost = asyncio.create_task(engine.wait_until_lost())
        lost.add_done_callback(lambda _: stopped.set())
    else:
        engine.attach(identity, worker.metrics)
    runner = web.AppRunner(worker.application, access_log=None, shutdown_timeout=2)
    await runner.setup()
    site = web.TCPSite(runner, address.host, address.port)
    await site.start()
    boot_ms = (time.monotonic_ns() - ordered_ns) / 1e6
    worker.became_ready(boot_ms=boot_ms)
    port = runner.addresses[0][1]
    logger.info("ready", extra={"fields": {"port": port, "boot": str(identity.boot), "boot_ms": round(boot_ms, 1)}})
    report(
        {
            "ready": True,
            "port": port,
            "pid": os.getpid(),
            "boot": str(identity.boot),
            "boot_ms": round(boot_ms, 1),
            "max_sessions": identity.max_sessions,
        }
    )

    await stopped.wait()
    if lost is not None and lost.done() and not lost.cancelled():
        logger.error("lost: %s", lost.result())
        await engine.close()
        raise SystemExit(LOST_EXIT_CODE)
    await worker.drain(grace_seconds=grace_seconds)
    await runner.cleanup()
    if lost is not None:
        lost.cancel()
    await engine.close()
