"""One container of a local deployment: a worker process from its start to its end, and the places on it.

It knows nothing of how many containers there are to be.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import hmac
import logging
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp

from provisioning.backends.contract import ContainerReport, ContainerState, DeploymentSpec, StopReason
from provisioning.backends.local.snapshot import Snapshot
from provisioning.backends.local.workers import Launcher, StartFailed, StartOrder, WorkerProcess, start_cold

logger = logging.getLogger(__name__)

STATUS_TIMEOUT_SECONDS = 3.0
UNANSWERED_SECONDS = 30.0
"""A worker that has not told its status for so long is taken for dead."""
KILL_MARGIN_SECONDS = 5.0
"""What a worker gets beyond its grace to leave by itself."""
LEAVING_SECONDS = 5.0
"""How long the end of a session given back is looked for, before the regular polls go on with it."""


@dataclasses.dataclass(slots=True)
class Lease:
    """A place held for a session. `seen`: when it was granted or last connected (monotonic seconds)."""

    idle_timeout_seconds: float
    seen: float

    def has_lapsed(self, at: float) -> bool:
        return at - self.seen > self.idle_timeout_seconds


class Container:
    """A worker process and its sessions. Times named `…_at` are for people; durations use the monotonic clock."""

    def __init__(self, name: str, spec: DeploymentSpec, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self.state = ContainerState.STARTING
        self.started_at = _now()
        self.ready_at: datetime.datetime | None = None
        self.stopped_at: datetime.datetime | None = None
        self.boot = ""
        self.boot_ms: float | None = None
        self.places = spec.sessions_per_container
        """How many sessions it carries at once."""
        self.why = ""
        self.exit_code: int | None = None
        self.leases: dict[str, Lease] = {}
        self.connected: set[str] = set()
        """Sessions that the worker last told of, or that may be with it still."""
        self.idle_since = self.ready_since = time.monotonic()
        self.is_silent = False
        """It did not answer when it was last looked at: nobody is sent to it."""
        self._spec = spec
        self._session_key = secrets.token_bytes(32)
        self._process: WorkerProcess | None = None
        self._answered = time.monotonic()

    # --- its life ---------------------------------------------------------------------------------------------------
    async def start(self, launcher: Launcher, snapshot: Snapshot | None) -> None:
        """Bring the worker up, restored where a snapshot stands.

        Raises:
            StartFailed, TimeoutError
        """
        can_fork = snapshot is not None and await snapshot.wait_for_first_load()
        self.started_at = _now()  # until now there was no process of its own
        order = StartOrder(
            worker=self._spec.worker,
            container=self.name,
            max_sessions=self._spec.sessions_per_container,
            checkpoint=self._spec.checkpoint,
            grace_seconds=self._spec.exit_grace_seconds,
            log_path=self.log_path,
            session_key=self._session_key.hex(),
        )
        async with asyncio.timeout(self._spec.startup_timeout_seconds):
            self._process = await self._start(order, launcher, snapshot if can_fork else None)
        ready = self._process.ready
        self.boot, self.boot_ms = ready.boot, ready.boot_ms
        self.places = min(ready.max_sessions, self._spec.sessions_per_container)
        self.state, self.ready_at = ContainerState.READY, _now()
        self.idle_since = self.ready_since = self._answered = time.monotonic()

    async def _start(self, order: StartOrder, launcher: Launcher, snapshot: Snapshot | None) -> WorkerProcess:
        if snapshot is not None:
            try:
                return await snapshot.fork(order)
            except StartFailed as problem:
                logger.warning("container %s starts cold: %s", self.name, problem)
        return await start_cold(launcher, order)

    async def wait(self) -> None:
        """Return when the process has ended."""
        assert self._process is not None
        self.exit_code = await self._process.wait()

    def drain(self, why: StopReason) -> None:
        """Ask the worker to take no more sessions and to leave when those it has are over; see to it that it does."""
        if self.state is not ContainerState.READY or self._process is None:
            return
        self.state, self.why = ContainerState.DRAINING, why
        self._process.send_signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._spec.exit_grace_seconds + KILL_MARGIN_SECONDS, self.kill)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)

    def become_stopped(self, why: StopReason) -> None:
        """Close it; a reason given before (scaledown, stopped) stands."""
        self.why = self.why or why
        self.state, self.stopped_at = ContainerState.STOPPED, _now()
        self.leases.clear()
        self.connected.clear()

    # --- its places -------------------------------------------------------------------------------------------------
    @property
    def used(self) -> int:
        return len(self.leases.keys() | self.connected)

    @property
    def free(self) -> int:
        """Places that can be granted now."""
        is_open = self.state is ContainerState.READY and not self.is_silent
        return max(0, self.places - self.used) if is_open else 0

    @property
    def address(self) -> str:
        assert self._process is not None
        return f"127.0.0.1:{self._process.ready.port}"

    def grant(self, idle_timeout_seconds: float) -> tuple[str, str]:
        """Take a place; return the session's name and the token that opens it."""
        session = secrets.token_hex(12)
        self.leases[session] = Lease(idle_timeout_seconds, time.monotonic())
        signature = hmac.new(self._session_key, session.encode(), hashlib.sha256).hexdigest()
        return session, f"{session}.{signature}"

    def forget(self, session: str) -> None:
        """Take back a grant that nobody received."""
        self.leases.pop(session, None)
        self.idle_since = time.monotonic()

    async def release(self, session: str, client: aiohttp.ClientSession) -> None:
        """Give a place back, once the worker has let go of it too: both ends hang up at about the same time."""
        if self.leases.pop(session, None) is None and session not in self.connected:
            return
        self.connected.add(session)
        deadline, pause_seconds = time.monotonic() + LEAVING_SECONDS, 0.02
        while self.state is ContainerState.READY and time.monotonic() < deadline:
            if await self.poll(client) and session not in self.connected:
                break
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, 0.5)

    async def poll(self, client: aiohttp.ClientSession) -> bool:
        """Ask the worker which sessions it has; return whether it answered. Leases that lapsed are let go.

        A worker that does not answer for long is killed.
        """
        had_sessions = self.used > 0
        try:
            document = await self._ask_status(client)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as problem:
            self.is_silent = True
            if time.monotonic() - self._answered > UNANSWERED_SECONDS:
                logger.error("container %s does not answer and is killed: %s", self.name, problem or "timed out")
                self.kill()
            return False
        if self.state is ContainerState.STOPPED:
            return False
        at = self._answered = time.monotonic()
        self.is_silent = False
        self.connected = document
        for session in document & self.leases.keys():
            self.leases[session].seen = at
        for session in [session for session, lease in self.leases.items() if lease.has_lapsed(at)]:
            del self.leases[session]
        if had_sessions and not self.used:
            self.idle_since = at
        return True

    async def _ask_status(self, client: aiohttp.ClientSession) -> set[str]:
        timeout = aiohttp.ClientTimeout(total=STATUS_TIMEOUT_SECONDS)
        async with client.get(f"http://{self.address}/status", timeout=timeout) as answer:
            document: dict[str, Any] = await answer.json()
        return {str(session["id"]) for session in document["sessions"]}

    def report(self) -> ContainerReport:
        return ContainerReport(
            name=self.name,
            state=self.state,
            started_at=self.started_at,
            ready_at=self.ready_at,
            stopped_at=self.stopped_at,
            boot=self.boot,
            boot_ms=self.boot_ms,
            why=self.why,
            exit_code=self.exit_code,
            sessions=self.used,
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
