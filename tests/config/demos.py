"""A real `manage.py demo` as a child process, as a terminal would run it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

ROOT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 120
STOP_SECONDS = 60
READY_LINE = "Ctrl-C stops it; its data stays."


def bare_environment() -> dict[str, str]:
    """Return the variables of somebody who has set nothing, but for the prepared models: making them takes long."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "WARMLINE_MODELS_DIR") if name in os.environ}


class Demo:
    """A demo from its start until it is stopped; `lines` is what it has printed so far."""

    def __init__(self, state_dir: Path, *arguments: str) -> None:
        self.state_dir = state_dir
        self.lines: list[str] = []
        self._new_lines: queue.Queue[str | None] = queue.Queue()
        self._started = time.monotonic()
        # A group of its own, like a terminal's foreground job.
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--state-dir", str(state_dir), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=bare_environment(),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        wait_until_gone(self.state_dir)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._new_lines.put(line.rstrip())
        self._new_lines.put(None)

    def until_line(self, wanted: str, *, within_seconds: float = READY_SECONDS) -> str:
        """Return the first line that holds these words."""
        deadline = time.monotonic() + within_seconds
        for line in self.lines:
            if wanted in line:
                return line
        while True:
            try:
                line = self._new_lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"{wanted!r} did not come:\n" + "\n".join(self.lines)
            self.lines.append(line)
            if wanted in line:
                return line

    def until_ready(self) -> float:
        """Return the seconds from the start."""
        self.until_line(READY_LINE)
        return time.monotonic() - self._started

    def press_ctrl_c(self) -> int:
        """Return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.until_ended()

    def until_ended(self) -> int:
        code = self.process.wait(STOP_SECONDS)
        while (line := self._new_lines.get(timeout=10)) is not None:
            self.lines.append(line)
        return code

    @property
    def variables(self) -> dict[str, Any]:
        """What it tells commands beside it."""
        return json.loads((self.state_dir / "running.json").read_text())

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.variables["DATABASE_OPERATOR_URL"]) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**bare_environment(), "WARMLINE_STATE_DIR": str(self.state_dir)},
        )


def left_behind(state_dir: Path) -> list[str]:
    """Return the command lines of living processes that know this state folder."""
    marker = str(state_dir).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            known = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
        except OSError:
            continue
        if marker in known and int(folder.name) != os.getpid():
            found.append(known.replace(b"\0", b" ")[:200].decode(errors="replace"))
    return found


def wait_until_gone(state_dir: Path, *, within_seconds: float = 30) -> None:
    """Raise AssertionError where processes of a demo live on."""
    deadline = time.monotonic() + within_seconds
    while remaining := left_behind(state_dir):
        assert time.monotonic() < deadline, "left behind:\n" + "\n".join(remaining)
        time.sleep(0.05)
