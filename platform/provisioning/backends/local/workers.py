"""Worker processes: starting one cold or by a fork of a loaded parent, and how each one ends.

It knows the agreement between supervisor and worker (command line, ready line, fork request), and nothing of scaling.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 65_536
LAST_WORDS_BYTES = 8_000
LAST_OUTPUT_SECONDS = 1.0
"""How long the output of a worker that has ended is read."""

# A worker is told what it needs and nothing else: the supervisor's own environment may hold secrets of the platform.
PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "WARMLINE_STATE_DIR",
    "WARMLINE_MODELS_DIR",
)
PASSED_PREFIXES = ("LLM_", "WORKER_", "OTEL_")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""Thread pools of libraries do not survive a fork; containers of both kinds are to be alike."""


class StartFailed(Exception):
    """A worker did not become ready. The sentence ends with its last words."""


@dataclasses.dataclass(frozen=True, slots=True)
class StartOrder:
    """What a worker is told when it starts."""

    worker: str
    container: str
    max_sessions: int
    checkpoint: str
    grace_seconds: int
    log_path: Path
    session_key: str = dataclasses.field(repr=False)
    ordered_ns: int = dataclasses.field(default_factory=time.monotonic_ns)


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """What a worker says when it can talk."""

    pid: int
    port: int
    boot: str
    boot_ms: float
    max_sessions: int
    """How many it carries: fewer than were ordered, where the device is too slow for them."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Ready:
        try:
            return cls(
                pid=int(document["pid"]),
                port=int(document["port"]),
                boot=str(document["boot"]),
                boot_ms=float(document["boot_ms"]),
                max_sessions=int(document["max_sessions"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise StartFailed(f"The worker's ready line was not of its form: {problem!r}.") from problem


class WorkerProcess(Protocol):
    """A running worker, however it was started."""

    ready: Ready

    async def wait(self) -> int | None:
        """Return its exit code when it ends; None where nobody can know it."""

    def send_signal(self, which: signal.Signals) -> None:
        """Signal it; nothing happens once it has ended."""


@dataclasses.dataclass(frozen=True, slots=True)
class Launcher:
    """How processes of workers are started. `package`: run as `python -m PACKAGE` and `python -m PACKAGE.zygote`."""

    package: str
    source_root: Path
    marker_variable: str
    marker: str

    def environment(self, **more: str) -> dict[str, str]:
        passed = {
            name: value
            for name, value in os.environ.items()
            if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIXES)
        }
        paths = [str(self.source_root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        return {
            **ONE_THREAD,
            **passed,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            self.marker_variable: self.marker,
            **more,
        }

    async def launch(self, *arguments: str, log_path: Path, **variables: str) -> asyncio.subprocess.Process:
        """Start a Python module with its log in a file and its standard output in a pipe."""
        with log_path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self.environment(**variables),
                cwd=self.source_root,
                limit=MAX_LINE_BYTES,
                # Ctrl-C in a terminal reaches the supervisor alone, which then stops the workers in order.
                start_new_session=True,
            )


async def start_cold(launcher: Launcher, order: StartOrder) -> WorkerProcess:
    """Start a new interpreter that loads everything, and wait until it is ready; cancelled, it is killed.

    Raises:
        StartFailed
    """
    arguments = [
        launcher.package,
        order.worker,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--max-sessions",
        str(order.max_sessions),
        "--container",
        order.container,
        "--grace-seconds",
        str(order.grace_seconds),
        *(["--checkpoint", order.checkpoint] if order.checkpoint else []),
    ]
    process = await launcher.launch(
        *arguments,
        log_path=order.log_path,
        WARMLINE_SESSION_KEY=order.session_key,
        WARMLINE_ORDERED_NS=str(order.ordered_ns),
    )
    output = Output(process, order.log_path)
    try:
        return _ColdProcess(process, output, Ready.from_document(await output.read_document("ready")))
    except BaseException:
        await kill(process)
        raise


async def start_forked(socket_path: Path, order: StartOrder) -> WorkerProcess:
    """Have the loaded parent fork, and wait until the child is ready.

    Where that fails or is cancelled, the connection closes, and the parent kills a child that is not ready.

    Raises:
        StartFailed: also where the parent is gone.
    """
    request = {
        "container": order.container,
        "host": "127.0.0.1",
        "port": 0,
        "max_sessions": order.max_sessions,
        "session_key": order.session_key,
        "ordered_ns": order.ordered_ns,
        "log": str(order.log_path),
        "grace_seconds": order.grace_seconds,
    }
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket_path), limit=MAX_LINE_BYTES)
    except OSError as problem:
        raise StartFailed(f"The loaded parent does not answer: {problem}.") from problem
    try:
        writer.write(json.dumps({"fork": request}).encode() + b"\n")
        await writer.drain()
        document = _read_document(await reader.readline())
        if not document.get("ready"):
            raise StartFailed(
                f"The loaded parent did not bring up a child: {document.get('error') or last_words(order.log_path)}"
            )
        return _ForkedProcess(reader, writer, Ready.from_document(document))
    except BaseException as problem:
        writer.close()
        if isinstance(problem, OSError):
            raise StartFailed(f"The loaded parent went away: {problem}.") from problem
        raise


class Output:
    """Standard output of a process: documents that are waited for; all other lines go to its log."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        assert process.stdout is not None
        self._process = process
        self._reader = process.stdout
        self._log_path = log_path

    async def read_document(self, key: str) -> dict[str, Any]:
        """Return the first JSON object that has `key`.

        Raises:
            StartFailed: the process ended before.
        """
        while line := await self._read_line():
            document = _read_document(line)
            if document.get(key):
                return document
            self._keep(line)
        code = await self._process.wait()
        raise StartFailed(f"The process ended with {code} before it was ready: {last_words(self._log_path)}")

    async def keep_rest(self) -> None:
        """Carry everything that follows to the log, so that a chatty process never blocks on a full pipe."""
        while line := await self._read_line():
            self._keep(line)

    async def _read_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ValueError:  # A line longer than the limit: the reader has dropped it.
            return b"(a very long line)\n"

    def _keep(self, line: bytes) -> None:
        with self._log_path.open("ab") as log:
            log.write(line)


class _ColdProcess:
    def __init__(self, process: asyncio.subprocess.Process, output: Output, ready: Ready) -> None:
        self.ready = ready
        self._process = process
        self._descriptor = _open_descriptor(process.pid)
        self._keeping = asyncio.create_task(output.keep_rest(), name=f"output of {process.pid}")

    async def wait(self) -> int | None:
        try:
            # The process's own `wait` waits for its output, too, which those that it left behind hold open.
            await _wait_for_end(self._descriptor)
        finally:
            _end_group(self._process.pid)
            _close_descriptor(self._descriptor)
            self._descriptor = None
        await asyncio.wait((self._keeping,), timeout=LAST_OUTPUT_SECONDS)
        self._keeping.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_OUTPUT_SECONDS):
                await self._process.wait()
        return self._process.returncode

    def send_signal(self, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(which)


class _ForkedProcess:
    """A child of the loaded parent. It lives on when the parent dies; then its process descriptor tells of its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ready: Ready) -> None:
        self.ready = ready
        self._reader, self._writer = reader, writer
        self._descriptor = _open_descriptor(ready.pid)

    async def wait(self) -> int | None:
        try:
            with contextlib.suppress(OSError, ValueError):
                while line := await self._reader.readline():
                    document = _read_document(line)
                    if document.get("exited") == self.ready.pid:
                        return int(document["code"])
            await _wait_for_end(self._descriptor)
            return None
        finally:
            _end_group(self.ready.pid)
            self._writer.close()
            _close_descriptor(self._descriptor)
            self._descriptor = None

    def send_signal(self, which: signal.Signals) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, which)


def _open_descriptor(pid: int) -> int | None:
    """Return a descriptor that tells of a process's end; None where it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None


def _close_descriptor(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


async def _wait_for_end(descriptor: int | None) -> None:
    if descriptor is None:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)


def _end_group(leader: int) -> None:
    """Kill what a worker that has ended left behind: each leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _read_document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def last_words(log_path: Path) -> str:
    """Return the last that a log says, to be put into a sentence."""
    lines = tail(log_path, LAST_WORDS_BYTES).strip().splitlines()
    if not lines:
        return "it said nothing."
    document = _read_document(lines[-1].encode())
    said = str(document.get("exception") or document.get("message") or lines[-1])
    return said.strip().splitlines()[-1][:300]


def tail(path: Path, max_bytes: int) -> str:
    """Return the end of a text file, empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            return file.read(max_bytes).decode(errors="replace")
    except OSError:
        return ""


async def kill(process: asyncio.subprocess.Process) -> None:
    """End a process at once and take its leave."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    _end_group(process.pid)
    await asyncio.shield(process.wait())
