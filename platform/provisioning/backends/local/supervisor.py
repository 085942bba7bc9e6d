"""The local backend's process: `python -m provisioning.backends.local.supervisor`.

Runs workers on this machine and lets the control plane direct them over HTTP on the loopback interface. With it, all
its workers end, also when it is killed; after a restart it runs what it ran before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import hmac
import importlib.util
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from aiohttp import web

from provisioning.backends.contract import (
    SOCKET_PATHS,
    AtCapacity,
    Autoscaling,
    BackendError,
    CredentialsRefused,
    DeploymentRefused,
    DeploymentSpec,
    DeploymentUnknown,
    SessionUnavailable,
)
from provisioning.backends.local import left_behind, memory
from provisioning.backends.local.deployment import LocalDeployment
from provisioning.backends.local.documents import error_document, read_autoscaling, to_document
from provisioning.backends.local.logs import start_logging
from provisioning.backends.local.workers import Launcher

logger = logging.getLogger("provisioning.supervisor")

DEFAULT_URL = "http://127.0.0.1:8002"
STOP_GRACE_SECONDS = 5.0
"""What live calls get when the supervisor itself is stopped."""
STOP_ANSWER_SECONDS = 10.0
"""How long who stops a deployment waits for its end; it comes all the same, within the grace of its containers."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
STATUS_CODES: dict[type[BackendError], int] = {
    DeploymentRefused: 422,
    DeploymentUnknown: 404,
    AtCapacity: 503,
    SessionUnavailable: 504,
}
LONGEST_WAIT_MS = 3_600_000
LOGS_KEPT_SECONDS = 7 * 24 * 3600


class Supervisor:
    """The deployments of this machine, by name."""

    def __init__(self, launcher: Launcher, state_dir: Path) -> None:
        self._launcher = launcher
        self._memory = state_dir / "deployments.json"
        self._log_folder = log_folder_of(state_dir)
        self._deployments: dict[str, LocalDeployment] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def restore(self) -> None:
        """Run what an earlier supervisor ran on this state folder."""
        for spec, autoscaling in memory.recall(self._memory):
            try:
                self.deploy(spec.name, spec, autoscaling)
            except BackendError as problem:
                logger.warning("deployment %s is not run again: %s", spec.name, problem)

    def deploy(self, name: str, spec: DeploymentSpec, autoscaling: Autoscaling) -> LocalDeployment:
        """Return the deployment of this name, made now where there is none.

        Raises:
            DeploymentRefused
        """
        if name != spec.name or not NAME.fullmatch(name):
            raise DeploymentRefused(f"The specification is not that of {name}.")
        package = self._launcher.package
        if spec.worker not in SOCKET_PATHS or importlib.util.find_spec(f"{package}.{spec.worker}") is None:
            raise DeploymentRefused(f"There is no worker of the kind {spec.worker} on this machine.")
        if spec.gpu:
            raise DeploymentRefused("The local backend has no GPU: leave it empty.")
        if name not in self._deployments:
            logger.info("deployment %s begins", name)
            self._deployments[name] = LocalDeployment(
                spec, autoscaling, launcher=self._launcher, folder=self._log_folder / name
            )
            self._remember()
        else:
            self.scale(name, autoscaling)
        return self._deployments[name]

    def scale(self, name: str, autoscaling: Autoscaling) -> LocalDeployment:
        deployment = self.find(name)
        if deployment.autoscaling != autoscaling:
            deployment.scale(autoscaling)
            self._remember()
        return deployment

    def find(self, name: str) -> LocalDeployment:
        if name not in self._deployments:
            raise DeploymentUnknown(f"There is no deployment {name} on this machine.")
        return self._deployments[name]

    def all(self) -> list[LocalDeployment]:
        return list(self._deployments.values())

    async def stop(self, name: str) -> None:
        """Forget a deployment, and wait a while for its end. Who asked may go away meanwhile."""
        deployment = self._deployments.pop(name, None)
        if deployment is None:
            return
        self._remember()
        closing = asyncio.create_task(self._close(deployment), name=f"close {name}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.wait((closing,), timeout=STOP_ANSWER_SECONDS)

    async def close(self) -> None:
        """Stop everything, and remember it."""
        standing = [self._close(each, grace_seconds=STOP_GRACE_SECONDS) for each in self._deployments.values()]
        await asyncio.gather(*standing)
        if self._closing:
            await asyncio.wait(self._closing, timeout=STOP_GRACE_SECONDS)

    async def _close(self, deployment: LocalDeployment, *, grace_seconds: float | None = None) -> None:
        await deployment.close(grace_seconds=grace_seconds)
        logger.info("deployment %s has stopped", deployment.spec.name)

    def _remember(self) -> None:
        memory.remember(self._memory, [(each.spec, each.autoscaling) for each in self._deployments.values()])


# --- the HTTP side ----------------------------------------------------------------------------------------------------
SUPERVISOR: web.AppKey[Supervisor] = web.AppKey("supervisor", Supervisor)
TOKEN: web.AppKey[str] = web.AppKey("token", str)


def make_application(supervisor: Supervisor, token: str) -> web.Application:
    application = web.Application(middlewares=[check_token, answer_errors])
    application[SUPERVISOR] = supervisor
    application[TOKEN] = token
    application.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/deployments", list_deployments),
            web.put("/deployments/{name}", put_deployment),
            web.get("/deployments/{name}", get_deployment),
            web.patch("/deployments/{name}", scale_deployment),
            web.delete("/deployments/{name}", stop_deployment),
            web.post("/deployments/{name}/priming", prime_deployment),
            web.post("/deployments/{name}/sessions", start_session),
            web.delete("/deployments/{name}/sessions/{session}", end_session),
            web.get("/deployments/{name}/containers/{container}/log", read_log),
        ]
    )
    return application


@web.middleware
async def check_token(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    expected = f"Bearer {request.app[TOKEN]}"
    given = request.headers.get("Authorization", "")
    if request.path != "/healthz" and not hmac.compare_digest(given.encode(), expected.encode()):
        return web.json_response(
            error_document(CredentialsRefused("The supervisor's token is missing or wrong.")), status=401
        )
    return await handler(request)


@web.middleware
async def answer_errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    try:
        return await handler(request)
    except BackendError as problem:
        return web.json_response(error_document(problem), status=STATUS_CODES.get(type(problem), 500))
    except (ValueError, TypeError, KeyError) as problem:
        logger.warning("a request was not of its form: %s %s: %r", request.method, request.path, problem)
        refusal = DeploymentRefused(f"The request was not of its form: {problem!r}.")
        return web.json_response(error_document(refusal), status=400)


async def healthz(request: web.Request) -> web.Response:
    return web.json_response({"ok": True, "deployments": len(request.app[SUPERVISOR].all())})


async def list_deployments(request: web.Request) -> web.Response:
    refs = [dataclasses.asdict(deployment.spec.ref) for deployment in request.app[SUPERVISOR].all()]
    return web.json_response({"deployments": refs})


async def put_deployment(request: web.Request) -> web.Response:
    document = await request.json()
    spec = DeploymentSpec.from_document(document["spec"])
    autoscaling = read_autoscaling(document["autoscaling"])
    return _report(request.app[SUPERVISOR].deploy(request.match_info["name"], spec, autoscaling))


async def get_deployment(request: web.Request) -> web.Response:
    return _report(_deployment(request))


async def scale_deployment(request: web.Request) -> web.Response:
    autoscaling = read_autoscaling(await request.json())
    return _report(request.app[SUPERVISOR].scale(request.match_info["name"], autoscaling))


async def stop_deployment(request: web.Request) -> web.Response:
    await request.app[SUPERVISOR].stop(request.match_info["name"])
    return web.json_response({})


async def prime_deployment(request: web.Request) -> web.Response:
    document = await request.json()
    report = await _deployment(request).prime(float(document["timeout_seconds"]))
    return web.json_response(to_document(report))


async def start_session(request: web.Request) -> web.Response:
    document = await request.json()
    granted = await _deployment(request).start_session(
        timeout_ms=min(int(document["timeout_ms"]), LONGEST_WAIT_MS),
        idle_timeout_seconds=float(document["idle_timeout_seconds"]),
    )
    return web.json_response(to_document(granted))


async def end_session(request: web.Request) -> web.Response:
    await _deployment(request).end_session(request.match_info["session"])
    return web.json_response({})


async def read_log(request: web.Request) -> web.Response:
    max_bytes = min(int(request.query.get("max_bytes", "65536")), 1 << 20)
    return web.Response(text=_deployment(request).read_log(request.match_info["container"], max_bytes))


def _deployment(request: web.Request) -> LocalDeployment:
    return request.app[SUPERVISOR].find(request.match_info["name"])


def _report(deployment: LocalDeployment) -> web.Response:
    return web.json_response(to_document(deployment.report()), dumps=_dumps)


def _dumps(document: dict[str, Any]) -> str:
    return json.dumps(document, default=lambda at: at.isoformat())


# --- the process ------------------------------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def serving(supervisor: Supervisor, token: str, host: str, port: int) -> AsyncIterator[int]:
    """Serve the application for the length of the block; yields the port."""
    # A client that goes away while it waits for a place must not be given one.
    runner = web.AppRunner(
        make_application(supervisor, token), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as problem:
            sys.exit(f"The local supervisor cannot listen on {host}:{port}: {problem.strerror}.")
        yield runner.addresses[0][1]
    finally:
        await supervisor.close()
        await runner.cleanup()


async def run(launcher: Launcher, token: str, host: str, port: int, state_dir: Path) -> None:
    """Serve until SIGTERM or SIGINT, then stop every worker."""
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    supervisor = Supervisor(launcher, state_dir)
    async with serving(supervisor, token, host, port) as listening_port:
        supervisor.restore()
        logger.info("the local supervisor listens on %s:%d", host, listening_port)
        if port == 0:
            # Whoever let it choose must be told.
            print(json.dumps({"listening": listening_port}), flush=True)
        await stopped.wait()
        logger.info("the local supervisor stops its workers")


def take_lock(state_dir: Path) -> TextIO:
    """Hold the state folder for this process; exit where another supervisor has it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = (state_dir / "supervisor.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"Another local supervisor already runs on {state_dir}.")
    return lock


def log_folder_of(state_dir: Path) -> Path:
    return state_dir / "logs" / "containers"


def forget_old_logs(folder: Path) -> None:
    """Delete logs of containers that ended long ago."""
    oldest = time.time() - LOGS_KEPT_SECONDS
    for log in folder.glob("*/*.log"):
        if log.stat().st_mtime < oldest:
            log.unlink()
    for deployment in folder.glob("*"):
        with contextlib.suppress(OSError):  # It still has some.
            deployment.rmdir()


def read_token() -> str:
    """Return LOCAL_SUPERVISOR_TOKEN, or what the file that LOCAL_SUPERVISOR_TOKEN_FILE names holds."""
    if path := os.environ.get("LOCAL_SUPERVISOR_TOKEN_FILE"):
        return Path(path).read_text().strip()
    return os.environ.get("LOCAL_SUPERVISOR_TOKEN", "")


def main() -> None:
    address = urlsplit(os.environ.get("LOCAL_SUPERVISOR_URL") or DEFAULT_URL)
    parser = argparse.ArgumentParser(prog="python -m provisioning.backends.local.supervisor", description=__doc__)
    parser.add_argument("--host", default=address.hostname or "127.0.0.1")
    parser.add_argument("--port", type=int, default=address.port or 8002, help="0 takes any free port")
    parser.add_argument("--state-dir", type=Path, default=Path(os.environ.get("WARMLINE_STATE_DIR") or ".warmline"))
    parser.add_argument("--workers", default="gpu_workers", help="the package of the workers")
    arguments = parser.parse_args()

    start_logging(log_format=os.environ.get("LOG_FORMAT", ""), level=os.environ.get("LOG_LEVEL") or "INFO")
    token = read_token()
    if not token:
        sys.exit("Set LOCAL_SUPERVISOR_TOKEN: the supervisor takes orders only from those who know it.")
    if arguments.host not in ("127.0.0.1", "::1", "localhost"):
        sys.exit("The supervisor listens on the loopback interface alone.")
    found = importlib.util.find_spec(arguments.workers)
    if found is None or found.origin is None:
        sys.exit(f"There is no package {arguments.workers} to run workers from.")

    state_dir = arguments.state_dir.resolve()
    lock = take_lock(state_dir)
    ended = left_behind.end_marked(lambda marker: marker.startswith(f"{state_dir}:"))
    if ended:
        logger.warning("%d workers of an earlier supervisor were ended", ended)
    forget_old_logs(log_folder_of(state_dir))
    marker = f"{state_dir}:{uuid.uuid4()}"
    # Nested packages (of tests) are run from the folder that holds the outermost one.
    source_root = Path(found.origin).parents[arguments.workers.count(".") + 1]
    launcher = Launcher(
        package=arguments.workers, source_root=source_root, marker_variable=left_behind.VARIABLE, marker=marker
    )
    guard = subprocess.Popen(
        [sys.executable, "-m", left_behind.__name__, marker],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ.copy(),
    )
    try:
        asyncio.run(run(launcher, token, arguments.host, arguments.port, state_dir))
    finally:
        left_behind.end_marked(lambda found_marker: found_marker == marker)
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(timeout=left_behind.PATIENCE_SECONDS + 5)
        lock.close()


if __name__ == "__main__":
    main()
