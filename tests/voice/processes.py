"""Real processes for the tests of calls: started on free ports, their output kept, stopped in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30.0


class Process:
    """A child process; `output` is the file that its stderr goes to."""

    def __init__(self, command: list[str], *, output: Path, env: dict[str, str] | None = None) -> None:
        self.output = output
        with output.open("ab") as stderr:
            self.child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", **(env or {})},
            )

    def first_line(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, f"the process ended with {self.child.wait()}: {self.output.read_text()[-2000:]}"
        return line.strip()

    def stop(self, number: int = signal.SIGTERM, timeout_seconds: float = 15.0) -> int:
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise AssertionError(f"the process did not stop: {self.output.read_text()[-2000:]}") from None
        finally:
            if self.child.stdout is not None:
                self.child.stdout.close()


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.stop(signal.SIGKILL)


@contextlib.contextmanager
def scripted_worker(folder: Path, mode: str = "answer") -> Iterator[tuple[int, Path, Process]]:
    """Run a scripted worker; gives its port, the file of what it received, and its process."""
    log = folder / f"worker-{mode}-{time.monotonic_ns()}.jsonl"
    command = [sys.executable, "-m", "tests.voice.scripted_worker", "--mode", mode, "--log", str(log)]
    with running(Process(command, output=folder / "worker.log")) as process:
        yield int(process.first_line()), log, process


def wait_until(condition: Callable[[], object], *, within_seconds: float = 10.0, what: str = "the condition") -> None:
    """Poll a condition.

    Raises:
        AssertionError: it did not become true in time.
    """
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {within_seconds} s"
        time.sleep(0.02)


async def until(condition: Callable[[], object], *, within_seconds: float = 10.0, what: str = "the condition") -> None:
    """Do the same without holding up the loop."""
    deadline = time.monotonic() + within_seconds
    while not condition():  # noqa: ASYNC110  (the condition may be in another process)
        assert time.monotonic() < deadline, f"{what} did not come true within {within_seconds} s"
        await asyncio.sleep(0.01)
