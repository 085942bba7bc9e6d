"""What is broken: gateways, workers, the database and Valkey, each a real process, and what may happen to them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from tests.voice.conftest import GatewayProcess
from tests.voice.processes import Process
from tests.voice.wire import Wire, wire_to

GATEWAYS = 2
WORKERS = 3
CHECKPOINT_SECONDS = 2.0
SUCCESSION_SECONDS = 1.0
LIMITS = {
    "GATEWAY_CHECKPOINT_SECONDS": str(CHECKPOINT_SECONDS),
    "GATEWAY_WORKER_SILENCE_SECONDS": "2",
    "GATEWAY_HANDSHAKE_SECONDS": "10",
    "GATEWAY_DRAIN_SECONDS": "1",
    "GATEWAY_RESUME_SECONDS": "30",
    "GATEWAY_MOST_FAILOVERS": "30",
    "GATEWAY_CLOSE_RETRY_SECONDS": "10",
    "GATEWAY_ADDRESS_CALLS_PER_MINUTE": "0",  # all of them come from here
    "GATEWAY_TENANT_CALLS_PER_MINUTE": "0",
}

Restart = Callable[[], Awaitable[None]]
"""Has a service go away and come back."""


class Fleet:
    """Two gateways and three workers, beside the services that the settings name.

    Args:
        variables: further ones of the gateways' environment.
    """

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.gateways: list[GatewayProcess] = []
        self.workers: list[tuple[int, Process]] = []
        self._in_service: list[GatewayProcess] = []
        self._waiting: list[GatewayProcess] = []
        self._folder = folder
        self._variables = variables

    @property
    def addresses(self) -> list[str]:
        """Where a load balancer would send callers."""
        return [gateway.url for gateway in self._in_service]

    async def start(self, successors: int) -> None:
        """Start workers, gateways, and as many gateways that wait to succeed others: a start takes long here."""
        self.workers = list(await asyncio.gather(*(asyncio.to_thread(self._worker, 0, "echo") for _ in range(WORKERS))))
        for _ in range(GATEWAYS + successors):
            self.gateways.append(
                await asyncio.to_thread(GatewayProcess, self._folder, {**LIMITS, **self._variables}, start_seconds=90)
            )
        self._in_service, self._waiting = self.gateways[:GATEWAYS], self.gateways[GATEWAYS:]

    async def stop(self) -> None:
        for gateway in self.gateways:
            await asyncio.to_thread(gateway.process.stop, signal.SIGKILL)
        for _, worker in self.workers:
            await asyncio.to_thread(worker.stop, signal.SIGKILL)

    # --- what happens ----------------------------------------------------------------------------------------------
    async def kill_worker(self, which: int, away_seconds: float = 1.0) -> None:
        """A container is gone, and a new one comes in its place."""
        port, worker = self.workers[which]
        await asyncio.to_thread(worker.stop, signal.SIGKILL)
        await asyncio.sleep(away_seconds)
        self.workers[which] = await asyncio.to_thread(self._worker, port, "echo")

    async def hang_worker(self, which: int, seconds: float = 4.0) -> None:
        """A container stands still: its connections stay, and nothing comes."""
        _, worker = self.workers[which]
        worker.child.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        worker.child.send_signal(signal.SIGCONT)

    async def fill_worker(self, which: int, seconds: float = 2.0) -> None:
        """A container is replaced by one that takes nobody, for a while."""
        port, worker = self.workers[which]
        await asyncio.to_thread(worker.stop, signal.SIGKILL)
        full = await asyncio.to_thread(self._worker, port, "at_capacity")
        await asyncio.sleep(seconds)
        await asyncio.to_thread(full[1].stop, signal.SIGKILL)
        self.workers[which] = await asyncio.to_thread(self._worker, port, "echo")

    async def stop_gateway(self) -> None:
        """A gateway is told to stop, as in a deployment: its successor is there before."""
        self._in_service.append(self._waiting.pop(0))
        leaving = self._in_service.pop(0)
        await asyncio.to_thread(leaving.process.stop, signal.SIGTERM, 30.0)

    async def kill_gateway(self) -> str:
        """A gateway is gone without a word, and a successor comes a little later. Returns where it was."""
        lost = self._in_service.pop(0)
        await asyncio.to_thread(lost.process.stop, signal.SIGKILL)
        await asyncio.sleep(SUCCESSION_SECONDS)
        self._in_service.append(self._waiting.pop(0))
        return lost.url

    # --- processes -------------------------------------------------------------------------------------------------
    def _worker(self, port: int, mode: str) -> tuple[int, Process]:
        command = [sys.executable, "-m", "tests.voice.scripted_worker", "--mode", mode, "--port", str(port)]
        process = Process(command, output=self._folder / "workers.log")
        return int(process.first_line()), process


@contextlib.asynccontextmanager
async def running_fleet(
    folder: Path, *, successors: int, variables: dict[str, str] | None = None
) -> AsyncIterator[Fleet]:
    """Run a fleet. `successors`: gateways that come after others."""
    fleet = Fleet(folder, variables or {})
    try:
        await fleet.start(successors)
        yield fleet
    finally:
        await fleet.stop()


@contextlib.asynccontextmanager
async def wires() -> AsyncIterator[tuple[dict[str, str], Restart, Restart]]:
    """Put wires before database and Valkey, whose cuts look to gateways like restarts.

    Gives the variables with which gateways go through them, and what cuts each.
    """
    database_url, valkey_url = urlsplit(settings.DATABASE_URL), urlsplit(settings.REDIS_URL)
    async with (
        wire_to(database_url.port or 5432) as (database, database_port),
        wire_to(valkey_url.port or 6379) as (valkey, valkey_port),
    ):
        variables = {
            "DATABASE_URL": _at_port(settings.DATABASE_URL, database_port),
            "REDIS_URL": _at_port(settings.REDIS_URL, valkey_port),
        }
        yield variables, lambda: _cut(database), lambda: _cut(valkey)


async def _cut(wire: Wire, seconds: float = 1.5) -> None:
    wire.cut()
    await asyncio.sleep(seconds)
    wire.mend()


def _at_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))
