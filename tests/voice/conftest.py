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
from tests.object_server import ObjectServer
from tests.recording_stores import Objects, Store
from tests.voice import factories
from tests.voice.processes import Process, running, scripted_worker, wait_until

GATEWAY_LIMITS = {
    "GATEWAY_CHECKPOINT_SECONDS": "2",
    "GATEWAY_HANDSHAKE_SECONDS": "1.5",
    "GATEWAY_STUCK_SECONDS": "2",
    "GATEWAY_CALLER_SILENCE_SECONDS": "4",
    "GATEWAY_DRAIN_SECONDS": "1",
    "GATEWAY_CLOSE_RETRY_SECONDS": "20",
    "GATEWAY_FAILOVER_SECONDS": "2",
    "GATEWAY_WORKER_SILENCE_SECONDS": "2",
    "GATEWAY_RESUME_SECONDS": "3",
    "GATEWAY_AWAY_BYTES": "600",
    "GATEWAY_ADDRESS_CALLS_PER_MINUTE": "0",  # all of them come from here
}


class GatewayProcess:
    """A gateway in a process of its own, on a free port."""

    def __init__(self, folder: Path, limits: dict[str, str], *, plain: bool = False, start_seconds: float = 30) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "tests.voice.gateway_process", "--port", str(self.port)]
        command += ["--plain"] * plain
        self.process = Process(command, output=folder / f"gateway-{self.port}.log", env=limits)
        wait_until(self._answers, within_seconds=start_seconds, what="the gateway's start")

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

    def is_free(self) -> bool:
        return '"calls": 0' in self.get("/healthz")[1]

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


@pytest.fixture(scope="session")
def plain_gateway(migrated_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The same on another server, which pumps messages one by one."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("plain-gateway"), GATEWAY_LIMITS, plain=True)
    with running(gateway.process):
        yield gateway


@pytest.fixture(scope="session")
def objects_gateway(
    migrated_database: None, object_server: ObjectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The same, with its recordings in a store that speaks S3's protocol."""
    limits = {**GATEWAY_LIMITS, **Objects(object_server).environment}
    gateway = GatewayProcess(tmp_path_factory.mktemp("objects-gateway"), limits)
    with running(gateway.process):
        yield gateway


@pytest.fixture
def recording_gateway(store: Store, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """A gateway that keeps recordings where `store` is."""
    gateway: GatewayProcess = request.getfixturevalue({"files": "gateway", "objects": "objects_gateway"}[store.name])
    yield gateway
    wait_until(gateway.is_free, within_seconds=30, what="the end of all calls")


@pytest.fixture(params=["gateway", "plain_gateway"], ids=["splice", "pumps"])
def either_gateway(request: pytest.FixtureRequest) -> GatewayProcess:
    """Runs a test on both."""
    gateway: GatewayProcess = request.getfixturevalue(request.param)
    return gateway


@pytest.fixture(autouse=True)
def calls_are_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait for the gateway to have written the end of each call, before rows are removed."""
    names = {"gateway", "either_gateway"} & set(request.fixturenames)
    gateways = {request.getfixturevalue(name) for name in names}
    yield
    for gateway in gateways:
        wait_until(gateway.is_free, within_seconds=30, what="the end of all calls")


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
