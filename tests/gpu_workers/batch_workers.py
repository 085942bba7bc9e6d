"""Workers that step a batch, for tests: as processes, cold and loaded to be forked; and code in a fresh interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.gpu_workers.worker_processes import READY_SECONDS, ROOT, Zygote, environment, process, read_line

PLACES = 3
IN_ANY_TIME = {"FRAME_BUDGET": "1000"}
"""Places are not what the tests of workers are about, and test machines are busy."""


@contextlib.contextmanager
def batch_worker(kind: str, checkpoint: Path, folder: Path) -> Iterator[int]:
    """Run a cold worker with PLACES places; give its port."""
    arguments = ["--port", "0", "--max-sessions", str(PLACES), "--checkpoint", str(checkpoint)]
    with process("gpu_workers", kind, *arguments, log=folder / f"{kind}.log", **IN_ANY_TIME) as running:
        assert running.stdout is not None
        ready = read_line(running.stdout, limit_seconds=READY_SECONDS)
        assert ready["max_sessions"] == PLACES
        yield ready["port"]


@contextlib.contextmanager
def two_forks(kind: str, checkpoint: Path, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Run a loaded parent and two workers forked from it, `one` and `other`; give what each said when it was ready."""
    arguments = ["--socket", str(folder / "parent"), "--max-sessions", "2", "--checkpoint", str(checkpoint)]
    with process("gpu_workers.zygote", kind, *arguments, log=folder / "parent.log", **IN_ANY_TIME) as running:
        assert running.stdout is not None
        assert read_line(running.stdout, limit_seconds=READY_SECONDS)["loaded"]
        assert "threads that a fork loses" not in (folder / "parent.log").read_text()
        with contextlib.closing(Zygote(folder / "parent", folder)) as zygote:
            ready = [zygote.fork(name, max_sessions=2) for name in ("one", "other")]
            assert [(each["boot"], each["max_sessions"]) for each in ready] == [("restored", 2)] * 2
            yield ready


async def wait_until_empty(port: int) -> None:
    """Wait until a worker has no sessions."""
    async with asyncio.timeout(10), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{port}/status") as answer:
                if not (await answer.json())["sessions"]:
                    return
            await asyncio.sleep(0.02)


def run_fresh(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in a new interpreter, and return the JSON object that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document
