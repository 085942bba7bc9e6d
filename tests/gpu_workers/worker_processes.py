"""Real worker processes for tests: cold ones, and children forked from a loaded parent."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 120
"""The first start on a machine prepares the models."""


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "LOG_LEVEL": "INFO", **changes}


def read_line(stream: IO[bytes], *, limit_seconds: float) -> dict[str, Any]:
    """Return the next JSON line of a process."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        assert selector.select(limit_seconds), "the process said nothing in time"
    return json.loads(stream.readline())


@contextlib.contextmanager
def process(module: str, *arguments: str, log: Path, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        running = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment(**changes),
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(timeout=15)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        assert running.stdout is not None
        running.stdout.close()


@contextlib.contextmanager
def cold_worker(log: Path, *arguments: str, **changes: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[bytes]]]:
    """Start `python -m gpu_workers cascade` on a free port; give its ready line and the process."""
    changes.setdefault("WARMLINE_ORDERED_NS", str(time.monotonic_ns()))
    with process("gpu_workers", "cascade", "--port", "0", *arguments, log=log, **changes) as running:
        assert running.stdout is not None
        yield read_line(running.stdout, limit_seconds=READY_SECONDS), running


class Zygote:
    """A client of the loaded parent. Children that still live at the end are stopped."""

    def __init__(self, path: Path, logs: Path) -> None:
        self._logs = logs
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(20)
        self._connection.connect(str(path))
        self._lines = self._connection.makefile("r")
        self.pids: list[int] = []

    def ask(self, document: dict[str, Any] | str) -> dict[str, Any]:
        line = document if isinstance(document, str) else json.dumps(document)
        self._connection.sendall(line.encode() + b"\n")
        return self.hear()

    def hear(self) -> dict[str, Any]:
        return json.loads(self._lines.readline())

    def fork(self, container: str, **order: Any) -> dict[str, Any]:
        order = {
            "container": container,
            "ordered_ns": time.monotonic_ns(),
            "log": str(self._logs / f"{container}.log"),
            "max_sessions": 4,
            **order,
        }
        ready = self.ask({"fork": order})
        self.pids.append(ready["pid"])
        return ready

    def close(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._lines.close()
        self._connection.close()


@contextlib.contextmanager
def loaded_zygote(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Start the loaded parent; give its socket and its first line."""
    path = folder / "zygote.sock"
    with process("gpu_workers.zygote", "cascade", "--socket", str(path), log=folder / "zygote.log") as running:
        assert running.stdout is not None
        yield path, read_line(running.stdout, limit_seconds=READY_SECONDS)
