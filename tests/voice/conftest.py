"""A running gateway, a scripted worker behind a ready deployment, and agents to call."""

from __future__ import annotations

import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from tests.voice.processes import Process, running, scripted_worker, wait_until

GATEWAY_LIMITS = {
    "GATEWAY_CHECKPOINT_SECONDS": "2",
    "GATEWAY_HANDSHAKE_SECONDS": "1.5",
    "GATEWAY_STUCK_SECONDS": "2",
    "GATEWAY_CALLER_SILENCE_SECONDS": "4",
    "GATEWAY_DRAIN_SECONDS": "1",
    "GATEWAY_CLOSE_RETRY_SECONDS": "20",
    "GATEWAY_ADDRESS_CALLS_PER_MINUTE": "0",  # all of them come from here
}


class GatewayProcess:
    """A gateway in a process of its own, on a free port."""

    def __init__(self, folder: Path, limits: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "tests.voice.gateway_process", "--port", str(self.port)]
        self.process = Process(command, output=folder / f"gateway-{self.port}.log", env=limits)
        wait_until(self._answers, within_seconds=30, what="the gateway's start")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.process.output.read_text()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, problem.read().decode()

    def _answers(self) -> bool:
        assert self.process.child.poll() is None, self.log
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="session")
def gateway(migrated_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The gateway that most tests share; its limits are short."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), GATEWAY_LIMITS)
    with running(gateway.process):
        yield gateway


@pytest.fixture(autouse=True)
def calls_are_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait for the gateway to have written the end of each call, before rows are removed."""
    yield
    if "gateway" in request.fixturenames:
        gateway = request.getfixturevalue("gateway")
        wait_until(lambda: '"calls": 0' in gateway.get("/healthz")[1], within_seconds=30, what="the end of all calls")


@pytest.fixture
def own_gateway(migrated_database: None, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """A function that starts a gateway for this test alone, with limits of its own."""
    started: list[GatewayProcess] = []

    def start(**limits: str) -> GatewayProcess:
        started.append(GatewayProcess(tmp_path, {**GATEWAY_LIMITS, **limits}))
        return started[-1]

    yield start
    for gateway in started:
        gateway.process.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def worker_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A scripted worker that tests share: its mode comes with the agent's prompt, and none of these modes ends it."""
    with scripted_worker(tmp_path_factory.mktemp("worker")) as (port, _, _):
        yield port


@pytest.fixture
def place(acme: Tenant, worker_port: int) -> Any:
    """A ready deployment of acme's on the shared scripted worker."""
    with enter_tenant(acme.id):
        return factories.create_deployment(port=worker_port)
