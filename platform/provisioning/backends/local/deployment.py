"""One deployment of the local backend: how many containers there are to be, and who gets a place on which.

Scaling is decided in one place (`_containers_wanted`) from what is there now; each change wakes the one loop that acts.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import math
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

import aiohttp

from provisioning.backends.contract import (
    AtCapacity,
    Autoscaling,
    ContainerState,
    DeploymentReport,
    DeploymentSpec,
    DeploymentUnknown,
    GrantedSession,
    PrimingReport,
    ReportedState,
    SessionUnavailable,
    StopReason,
    address_of,
)
from provisioning.backends.local.containers import Container
from provisioning.backends.local.snapshot import Snapshot
from provisioning.backends.local.workers import Launcher, StartFailed, last_words, tail

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
POLL_SECONDS = 1.0
STOPPED_KEPT = 100
"""Reports and logs of so many stopped containers are kept."""
LONGEST_LOG_BYTES = 16 << 20
MAX_STARTING = 4
FIRST_BACK_OFF_SECONDS = 0.25
LONGEST_BACK_OFF_SECONDS = 15.0
BEING_STOPPED = "This deployment is being stopped."
NEVER_FORKED = frozenset({"llm"})
"""Workers that have processes of their own: a copy of the parent would have none."""
STEADY_SECONDS = 10.0
"""A container that ran for so long has shown that its kind can run: its crash is no reason to wait."""


@dataclasses.dataclass(eq=False, slots=True)
class _Waiting:
    """Somebody who asked for a place."""

    granted: asyncio.Future[tuple[Container, str, str]]
    idle_timeout_seconds: float


class LocalDeployment:
    def __init__(self, spec: DeploymentSpec, autoscaling: Autoscaling, *, launcher: Launcher, folder: Path) -> None:
        self.spec = spec
        self.autoscaling = autoscaling
        self._launcher = launcher
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._containers: dict[str, Container] = {}
        self._stopped: collections.deque[Container] = collections.deque()
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._failures = 0
        self._places_each = spec.sessions_per_container
        """Places that a container has: fewer than were ordered, where the last one that started carries fewer."""
        self._next_start = 0.0
        self._problem = ""
        self._is_closing = False
        self._client = aiohttp.ClientSession()
        # A socket's path may have 107 characters at most: not every folder of ours would do.
        self._socket_folder = Path(tempfile.mkdtemp(prefix="wl-"))
        self._snapshot = self._make_snapshot() if spec.snapshots and spec.worker not in NEVER_FORKED else None
        self._loops = [
            asyncio.create_task(self._keep_scaling(), name=f"scale {spec.name}"),
            asyncio.create_task(self._keep_polling(), name=f"poll {spec.name}"),
        ]

    # --- what is asked of it ------------------------------------------------------------------------------------------
    def scale(self, autoscaling: Autoscaling) -> None:
        self.autoscaling = autoscaling
        self._changed.set()

    async def start_session(self, *, timeout_ms: int, idle_timeout_seconds: float) -> GrantedSession:
        """Wait for a place. Cancelled or timed out, it leaves nothing behind.

        Raises:
            AtCapacity: at once, where no container that may yet come could have room.
            SessionUnavailable, DeploymentUnknown
        """
        if self._is_closing:
            raise DeploymentUnknown(BEING_STOPPED)
        began = time.monotonic()
        waiting = _Waiting(asyncio.get_running_loop().create_future(), idle_timeout_seconds)
        self._waiting.append(waiting)
        try:
            self._grant_places()
            if not waiting.granted.done() and self._places_to_come() < len(self._waiting):
                raise AtCapacity("All lines of this deployment are taken.")
            self._changed.set()
            async with asyncio.timeout(timeout_ms / 1000):
                container, session, token = await waiting.granted
        except TimeoutError:
            self._give_up(waiting)
            why = f" {self._problem}" if self._problem else ""
            raise SessionUnavailable(f"No container became ready within {timeout_ms} ms.{why}") from None
        except BaseException:
            self._give_up(waiting)
            raise
        return GrantedSession(
            ref=session,
            url=address_of(self.spec.worker, container.address, secure=False),
            headers={"Modal-Authorization": f"Bearer {token}"},
            container=container.name,
            reserve_ms=round((time.monotonic() - began) * 1000),
        )

    async def end_session(self, session: str) -> None:
        for container in list(self._containers.values()):  # others come and go meanwhile
            if session in container.leases or session in container.connected:
                await container.release(session, self._client)
        self._changed.set()

    async def prime(self, timeout_seconds: float) -> PrimingReport:
        """Hold a place for a moment: it proves that a container can come up."""
        granted = await self.start_session(timeout_ms=round(timeout_seconds * 1000), idle_timeout_seconds=5)
        await self.end_session(granted.ref)
        booted = [container for container in self._containers.values() if container.boot_ms is not None]
        return PrimingReport(
            boots=tuple(container.boot for container in booted),
            boot_ms=tuple(container.boot_ms or 0.0 for container in booted),
            failures=tuple(container.why for container in self._stopped if container.ready_at is None),
        )

    def report(self) -> DeploymentReport:
        containers = [*self._containers.values(), *self._stopped]
        return DeploymentReport(
            ref=self.spec.ref,
            state=ReportedState.READY,
            sentence=self._problem,
            autoscaling=self.autoscaling,
            containers=tuple(container.report() for container in containers),
            waiting=len(self._waiting),
            snapshot=self._snapshot.state if self._snapshot else "",
        )

    def read_log(self, container: str, max_bytes: int) -> str:
        """Return the end of a container's log, or of the snapshot's for "snapshot"."""
        known = {each.name for each in (*self._containers.values(), *self._stopped)} | {"snapshot"}
        return tail(self._log_path(container), max_bytes) if container in known else ""

    async def close(self, *, grace_seconds: float | None = None) -> None:
        """Stop everything: workers are asked, get their grace (of the specification, or this), and are then killed."""
        self._is_closing = True
        for waiting in self._waiting:
            if not waiting.granted.done():  # who gave up a moment ago is not off the list yet
                waiting.granted.set_exception(DeploymentUnknown(BEING_STOPPED))
        self._waiting.clear()
        await _cancel(*self._loops)
        grace = self.spec.exit_grace_seconds if grace_seconds is None else grace_seconds
        for container in self._containers.values():
            container.drain(StopReason.STOPPED)
        for name, life in list(self._lives.items()):
            if self._containers[name].state is ContainerState.STARTING:
                life.cancel()
        if self._lives:
            await asyncio.wait(self._lives.values(), timeout=grace)
        for container in self._containers.values():
            container.kill()
        await asyncio.gather(*self._lives.values(), return_exceptions=True)
        if self._snapshot is not None:
            await self._snapshot.close()
        await self._client.close()
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    # --- scaling ------------------------------------------------------------------------------------------------------
    async def _keep_scaling(self) -> None:
        while True:
            self._changed.clear()
            try:
                self._grant_places()
                self._start_missing()
                self._stop_surplus()
            except Exception:
                # A deployment that is no longer scaled would look as if all were well.
                logger.exception("deployment %s could not be scaled", self.spec.name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._changed.wait()

    def _containers_wanted(self) -> int:
        """As many as the sessions need, with the buffer while there is load; never under min, never over max."""
        answering = [container for container in self._up() if not container.is_silent]
        busy = [container for container in answering if container.used]
        room = sum(container.free for container in busy)
        for_waiting = math.ceil(max(0, len(self._waiting) - room) / self._places_each)
        wanted = len(busy) + for_waiting
        if wanted:
            wanted += self.autoscaling.buffer_containers
        wanted = max(wanted, self.autoscaling.min_containers) + len(self._up()) - len(answering)
        return min(wanted, self.autoscaling.max_containers)

    def _start_missing(self) -> None:
        if time.monotonic() < self._next_start:
            return
        up = self._up()
        starting = sum(container.state is ContainerState.STARTING for container in up)
        for _ in range(min(self._containers_wanted() - len(up), MAX_STARTING - starting)):
            name = f"{self.spec.worker}-{secrets.token_hex(5)}"
            container = self._containers[name] = Container(name, self.spec, self._log_path(name))
            self._lives[name] = asyncio.create_task(self._live(container), name=f"container {name}")

    def _stop_surplus(self) -> None:
        at, up = time.monotonic(), self._up()
        surplus = len(up) - self._containers_wanted()
        too_many = len(up) - self.autoscaling.max_containers
        idle = sorted((each for each in up if self._is_idle(each)), key=lambda each: each.idle_since)
        for place, container in enumerate(idle[: max(0, surplus)]):
            if place < too_many or at - container.idle_since > self.autoscaling.scaledown_window_seconds:
                container.drain(StopReason.SCALEDOWN)

    def _is_idle(self, container: Container) -> bool:
        return container.state is ContainerState.READY and not container.used

    def _up(self) -> list[Container]:
        return [
            container
            for container in self._containers.values()
            if container.state in (ContainerState.STARTING, ContainerState.READY)
        ]

    async def _live(self, container: Container) -> None:
        """See one container through its life."""
        why, forget_failures = StopReason.CRASHED, None
        try:
            await container.start(self._launcher, self._snapshot)
            logger.info("container %s is ready: %s in %.0f ms", container.name, container.boot, container.boot_ms)
            self._problem = ""
            self._places_each = max(1, container.places)
            self._changed.set()
            forget_failures = asyncio.get_running_loop().call_later(STEADY_SECONDS, self._forget_failures)
            await container.wait()
            if not container.why:
                said = last_words(container.log_path)
                self._problem = f"A worker crashed (exit code {container.exit_code}); it said last: {said}"
        except TimeoutError:
            why = StopReason.START_TIMED_OUT
            self._problem = f"A worker was not ready within {self.spec.startup_timeout_seconds} s."
        except StartFailed as problem:
            why, self._problem = StopReason.START_FAILED, str(problem)
        except asyncio.CancelledError:
            why = StopReason.STOPPED
            raise
        except Exception as problem:
            why, self._problem = StopReason.START_FAILED, f"A worker could not be started: {problem!r}."
            logger.exception("container %s failed", container.name)
        finally:
            if forget_failures is not None:
                forget_failures.cancel()
            container.become_stopped(why)
            self._bury(container)

    def _bury(self, container: Container) -> None:
        del self._containers[container.name]
        del self._lives[container.name]
        self._stopped.appendleft(container)
        while len(self._stopped) > STOPPED_KEPT:
            self._stopped.pop().log_path.unlink(missing_ok=True)
        if container.why in (StopReason.CRASHED, StopReason.START_FAILED, StopReason.START_TIMED_OUT):
            self._back_off(container)
        elif not self._is_closing:
            logger.info("container %s has stopped: %s", container.name, container.why)
        self._changed.set()

    def _back_off(self, container: Container) -> None:
        ran_seconds = time.monotonic() - container.ready_since if container.ready_at else 0.0
        self._failures = 1 if ran_seconds > STEADY_SECONDS else self._failures + 1
        wait_seconds = min(FIRST_BACK_OFF_SECONDS * 2 ** (self._failures - 1), LONGEST_BACK_OFF_SECONDS)
        self._next_start = time.monotonic() + wait_seconds
        logger.error(
            "container %s has stopped: %s; the next start in %.2f s. %s",
            container.name,
            container.why,
            wait_seconds,
            self._problem,
        )

    def _forget_failures(self) -> None:
        self._failures = 0

    # --- places -------------------------------------------------------------------------------------------------------
    def _grant_places(self) -> None:
        """Give places to those who wait, in their order; from the fullest container, so that others can go idle."""
        while self._waiting:
            open_containers = [container for container in self._containers.values() if container.free]
            if not open_containers:
                return
            container = max(open_containers, key=lambda each: each.used)
            waiting = self._waiting.popleft()
            if not waiting.granted.done():
                waiting.granted.set_result((container, *container.grant(waiting.idle_timeout_seconds)))

    def _places_to_come(self) -> int:
        """Return how many places there could be if every container that may be were ready, ours not counted."""
        up = self._up()
        # A place that was given back, and that the worker has not let go of yet, is free in a moment.
        there = sum(container.places - len(container.leases) for container in up)
        return there + max(0, self.autoscaling.max_containers - len(up)) * self._places_each

    def _give_up(self, waiting: _Waiting) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(waiting)
        if waiting.granted.done() and not waiting.granted.cancelled() and waiting.granted.exception() is None:
            container, session, _ = waiting.granted.result()
            container.forget(session)
            self._changed.set()

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            ready = [each for each in self._containers.values() if each.state is ContainerState.READY]
            results = await asyncio.gather(
                *(container.poll(self._client) for container in ready), return_exceptions=True
            )
            for container, result in zip(ready, results, strict=True):
                if isinstance(result, Exception):
                    logger.error("container %s could not be looked at", container.name, exc_info=result)
            for log_path in (self._log_path("snapshot"), *(each.log_path for each in self._containers.values())):
                _trim(log_path)
            self._changed.set()

    # --- files --------------------------------------------------------------------------------------------------------
    def _log_path(self, container: str) -> Path:
        return self._folder / f"{container}.log"

    def _make_snapshot(self) -> Snapshot:
        return Snapshot(
            self._launcher,
            worker=self.spec.worker,
            checkpoint=self.spec.checkpoint,
            max_sessions=self.spec.sessions_per_container,
            socket_path=self._socket_folder / "parent",
            log_path=self._log_path("snapshot"),
            load_seconds=self.spec.startup_timeout_seconds,
        )


def _trim(log_path: Path) -> None:
    """Empty a log that has grown too long; the worker appends, so it goes on at the start."""
    with contextlib.suppress(OSError):
        if log_path.stat().st_size > LONGEST_LOG_BYTES:
            os.truncate(log_path, 0)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
