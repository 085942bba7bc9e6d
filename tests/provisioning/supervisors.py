"""A real supervisor process with scripted workers, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from provisioning.backends.contract import Autoscaling, ContainerReport, DeploymentReport, DeploymentSpec
from provisioning.backends.local.backend import LocalBackend
from provisioning.backends.local.left_behind import find_marked

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "a-token-of-the-tests"
STOP_SECONDS = 20
TIMEOUT_MS = 15_000


class Supervisor:
    """A supervisor process on a folder of its own; `script` changes what its workers do from then on."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.script()
        self._log = (folder / "supervisor.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "provisioning.backends.local.supervisor",
                "--port",
                str(port),
                "--state-dir",
                str(folder),
                "--workers",
                "tests.provisioning.scripted_workers",
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
                "LOCAL_SUPERVISOR_TOKEN": TOKEN,
                "WORKER_SCRIPT": str(folder / "script.json"),
                "LOG_LEVEL": "INFO",
            },
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise AssertionError(f"the supervisor ended: {self.log()}")
        self.port = int(json.loads(line)["listening"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def backend(self, token: str = TOKEN) -> LocalBackend:
        return LocalBackend(self.url, token)

    def script(self, **what: Any) -> None:
        path = self.folder / "script.json"
        path.with_suffix(".new").write_text(json.dumps(what))
        path.with_suffix(".new").rename(path)

    def worker_pids(self) -> list[int]:
        """Return every process of its workers, parents that are loaded included."""
        return find_marked(lambda marker: marker.startswith(f"{self.folder.resolve()}:"))

    def log(self) -> str:
        return (self.folder / "supervisor.log").read_text()

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self._log.close()


@contextlib.contextmanager
def running_supervisor() -> Iterator[Supervisor]:
    with tempfile.TemporaryDirectory(prefix="wl-supervisor-", ignore_cleanup_errors=True) as folder:
        supervisor = Supervisor(Path(folder))
        try:
            yield supervisor
        finally:
            supervisor.stop()


def make_spec(**fields: Any) -> DeploymentSpec:
    return DeploymentSpec(
        **{
            "environment": "test",
            "tenant_id": "00000000-0000-0000-0000-000000000007",
            "tenant_slug": "acme",
            "pool_id": "00000000-0000-0000-0000-00000000000a",
            "worker": "cascade",
            "region": "local",
            "sessions_per_container": 1,
            "snapshots": False,
            "startup_timeout_seconds": 20,
            "exit_grace_seconds": 2,
            **fields,
        }
    )


def make_autoscaling(**fields: Any) -> Autoscaling:
    return Autoscaling(**{"max_containers": 2, "scaledown_window_seconds": 300, **fields})


def eventually(check: Callable[[], Any], *, seconds: float = 10.0) -> Any:
    """Return what `check` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < deadline, f"{check} did not become true within {seconds} s"
        time.sleep(0.05)
    return result


async def until(ask: Callable[[], Awaitable[Any]], *, seconds: float = 10.0) -> Any:
    """Return what `ask` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := await ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)
    return result


def running(report: DeploymentReport) -> list[ContainerReport]:
    return [container for container in report.containers if container.stopped_at is None]


def stopped(report: DeploymentReport) -> list[ContainerReport]:
    return [container for container in report.containers if container.stopped_at is not None]


async def ready_count(backend: LocalBackend, spec: DeploymentSpec) -> int:
    report = await backend.status(spec.ref)
    return sum(container.state == "ready" for container in report.containers)


def is_parent(pid: int) -> bool:
    """Return whether a process is a loaded parent, and not one of its forks, which have its command line."""
    process = Path(f"/proc/{pid}")
    made_by = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
    maker = Path(f"/proc/{made_by}/cmdline").read_text()
    return "zygote" in (process / "cmdline").read_text() and "supervisor" in maker


async def snapshot_is(backend: LocalBackend, spec: DeploymentSpec, state: str, *, is_not: bool = False) -> bool:
    return ((await backend.status(spec.ref)).snapshot == state) != is_not


async def with_stopped(backend: LocalBackend, spec: DeploymentSpec) -> DeploymentReport | None:
    report = await backend.status(spec.ref)
    return report if stopped(report) else None


async def has_ready(backend: LocalBackend, spec: DeploymentSpec, count: int) -> bool:
    return await ready_count(backend, spec) == count


async def no_workers(supervisor: Supervisor) -> bool:
    return supervisor.worker_pids() == []
