"""Containers: processes on this machine that run a deployed Server through the SDK's own entrypoint."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from modal_proto import api_pb2

from tests.modal_server.state import App, FunctionCall, Server, State, new_id

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.02
CRASH_PAUSE_SECONDS = 1.0
RESTORE_FAILED = 222
"""How the SDK's entrypoint exits where it cannot be restored."""
_hosts: Iterator[int] = itertools.count(secrets.randbelow(15_000_000))
"""Numbers of addresses for containers: another stand-in on this machine is not to meet them."""


class Full(Exception):
    """No container has room, and there may be no more."""


@dataclasses.dataclass
class Session:
    id: str
    token: str
    container: Container
    idle_seconds: float
    connections: int = 0
    idle_since: float = dataclasses.field(default_factory=time.monotonic)


@dataclasses.dataclass
class Container:
    name: str
    server: Server
    host: str
    folder: Path
    is_restored: bool
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    is_stopping: bool = False
    started_at: float = dataclasses.field(default_factory=time.time)
    sessions: dict[str, Session] = dataclasses.field(default_factory=dict)
    idle_since: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def port(self) -> int:
        return self.server.function.http_config.port

    @property
    def has_room(self) -> bool:
        most = self.server.function.max_concurrent_inputs or 1
        return self.is_ready and not self.is_stopping and len(self.sessions) < most


def _token() -> str:
    """Return what the SDK takes for a token: a JWT that says until when it is good. Nobody checks its signature."""
    parts = ({"alg": "none"}, {"exp": time.time() + 86_400, "jti": secrets.token_hex(8)})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join([*encoded, ""])


def _layout(server: Server) -> api_pb2.AppLayout:
    return api_pb2.AppLayout(
        objects=[api_pb2.Object(object_id=server.id, function_handle_metadata=server.handle())],
        function_ids={server.function.function_name: server.id},
    )


class Fleet:
    """All containers of all workspaces, as their autoscalers want them."""

    def __init__(self, state: State, folder: Path, *, listen: Callable[[Server, socket.socket], None]) -> None:
        self._state, self._folder, self._listen = state, folder, listen
        self.server_url = ""
        self.server_token = _token()
        self.containers: list[Container] = []
        self.ended: list[tuple[Container, int]] = []
        self._snapshots: set[str] = set()
        """Servers with a container that asked for a snapshot."""
        self._runs: list[tuple[FunctionCall, subprocess.Popen[bytes]]] = []
        self._waiting: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        """When the next container of a Server may start, after one has crashed."""

    def url_of(self, server: Server) -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self._listen(server, listener)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    # --- sessions ---------------------------------------------------------------------------------------------------
    async def start_session(self, server: Server, idle_seconds: float) -> Session:
        """Return a place, on a new container where none has room.

        Raises:
            Full
        """
        self._waiting[server.id] = self._waiting.get(server.id, 0) + 1
        try:
            while (container := self._with_room(server)) is None:
                self.tend()
                is_coming = any(not each.is_ready and not each.is_stopping for each in self._of(server))
                if not is_coming and server.id not in self._not_before:
                    raise Full
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self._waiting[server.id] -= 1
        session = Session(new_id("se"), secrets.token_hex(16), container, idle_seconds)
        container.sessions[session.token] = session
        return session

    def session(self, token: str) -> Session | None:
        return next((each.sessions[token] for each in self.containers if token in each.sessions), None)

    def end_session(self, session: Session) -> None:
        if session.container.sessions.pop(session.token, None) is not None:
            session.container.idle_since = time.monotonic()

    def _with_room(self, server: Server) -> Container | None:
        having = [each for each in self._of(server) if each.has_room]
        return max(having, key=lambda each: len(each.sessions), default=None)

    def _of(self, server: Server) -> list[Container]:
        return [each for each in self.containers if each.server.id == server.id]

    # --- how many there are -----------------------------------------------------------------------------------------
    async def keep(self) -> None:
        """Follow containers and sessions until cancelled."""
        while True:
            self._reap()
            self._reap_calls()
            self.tend()
            await asyncio.sleep(POLL_SECONDS)

    def tend(self) -> None:
        """Start and stop containers as their autoscalers want."""
        for server in self._state.servers():
            is_wanted = server.app.state == api_pb2.APP_STATE_DEPLOYED
            having = [each for each in self._of(server) if not each.is_stopping]
            if not is_wanted:
                for container in having:
                    self._stop(container)
                continue
            settings = server.autoscaler
            per_container = server.function.max_concurrent_inputs or 1
            ready = [each for each in having if each.is_ready]
            places = sum(per_container - len(each.sessions) for each in ready)
            wanted = len(ready) + -(-max(0, self._waiting.get(server.id, 0) - places) // per_container)
            busy = any(each.sessions for each in having)
            idle = sum(not each.sessions for each in having)
            if busy:
                wanted = max(wanted, len(having) + settings.buffer_containers - idle)
            wanted = max(wanted, settings.min_containers)
            wanted = min(wanted, settings.max_containers or wanted)
            if time.monotonic() > self._not_before.get(server.id, 0.0):
                for _ in range(wanted - len(having)):
                    self._launch(server)
            self._scale_down(server, having)

    def _scale_down(self, server: Server, having: list[Container]) -> None:
        window_seconds = server.autoscaler.scaledown_window or 60
        spare = len(having) - server.autoscaler.min_containers
        for container in having:
            is_idle = container.is_ready and not container.sessions
            if spare > 0 and is_idle and time.monotonic() - container.idle_since > window_seconds:
                self._stop(container)
                spare -= 1

    def _reap(self) -> None:
        now = time.monotonic()
        for container in list(self.containers):
            for session in list(container.sessions.values()):
                if not session.connections and now - session.idle_since > session.idle_seconds:
                    self.end_session(session)
            assert container.process is not None
            if (code := container.process.poll()) is not None:
                self.containers.remove(container)
                self.ended.append((container, code))
                if not container.is_stopping:
                    self._not_before[container.server.id] = now + CRASH_PAUSE_SECONDS
            elif not container.is_ready:
                self._look(container)

    def _look(self, container: Container) -> None:
        """See whether a container's port takes connections; give it up when that takes too long."""
        with contextlib.suppress(OSError), socket.create_connection((container.host, container.port), timeout=0.05):
            container.is_ready, container.idle_since = True, time.monotonic()
            return
        if time.time() - container.started_at > container.server.function.http_config.startup_timeout:
            assert container.process is not None
            container.process.kill()

    # --- one container ----------------------------------------------------------------------------------------------
    def _launch(self, server: Server) -> None:
        name, number = new_id("ta"), next(_hosts)
        folder = self._folder / name
        folder.mkdir(parents=True)
        has_snapshots = server.function.checkpointing_enabled
        container = Container(
            name,
            server,
            host=f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}",
            folder=folder,
            is_restored=has_snapshots and server.id in self._snapshots,
        )
        if container.is_restored and self._state.failing_restores:
            # It dies while it is restored, and starts cold in another container.
            self._state.failing_restores -= 1
            self.ended.append((container, RESTORE_FAILED))
            has_snapshots = container.is_restored = False
        arguments = api_pb2.ContainerArguments(
            task_id="ta-snapshot" if container.is_restored else name,
            function_id=server.id,
            app_id=server.app.id,
            function_def=server.function,
            environment_name="main",
            checkpoint_id=name if has_snapshots else "",
            app_layout=_layout(server),
        )
        arguments.function_def.is_checkpointing_function = has_snapshots
        container.process = self._start(
            folder,
            server,
            arguments,
            WORKER_HOST=container.host,
            MODAL_RESTORE_STATE_PATH=str(folder / "restore-state.json"),
            MODAL_ENABLE_SNAP_RESTORE="1" if has_snapshots else "0",
        )
        self.containers.append(container)

    def _start(
        self, folder: Path, server: Server, arguments: api_pb2.ContainerArguments, **more: str
    ) -> subprocess.Popen[bytes]:
        """Start a container's process: the SDK's entrypoint, told what it is to run."""
        (folder / "arguments").write_bytes(arguments.SerializeToString())
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "WARMLINE_MODELS_DIR": os.environ.get("WARMLINE_MODELS_DIR", ""),
            "MODAL_SERVER_URL": self.server_url,
            "MODAL_CONFIG_PATH": "/dev/null",
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": arguments.task_id,
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(folder / "arguments"),
            **more,
            **server.secrets,
        }
        for mount in server.function.volume_mounts:
            environment["WORKER_WEIGHTS_PATH"] = str(self._state.volume(mount.volume_id).folder)
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "modal._container_entrypoint"],
                cwd=ROOT,
                env={name: value for name, value in environment.items() if value},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    # --- calls of plain Functions -----------------------------------------------------------------------------------
    def run(self, call: FunctionCall) -> None:
        """Start a container for a call. It asks for its input, gives its output, and ends."""
        name = new_id("ta")
        folder = self._folder / name
        folder.mkdir(parents=True)
        server = call.server
        arguments = api_pb2.ContainerArguments(
            task_id=name,
            function_id=server.id,
            app_id=server.app.id,
            function_def=server.function,
            environment_name="main",
            app_layout=_layout(server),
        )
        self._runs.append((call, self._start(folder, server, arguments)))

    def end_calls(self, app: App) -> None:
        """Stop the containers of an App whose caller has gone."""
        for call, process in self._runs:
            if call.server.app is app and process.poll() is None:
                process.kill()

    def _reap_calls(self) -> None:
        for call, process in self._runs:
            if process.poll() is not None and call.output is None:
                lost = api_pb2.GenericResult(
                    status=api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, exception="The container ended."
                )
                call.output = api_pb2.FunctionGetOutputsItem(result=lost, input_id=call.id)

    def checkpoint(self, name: str) -> None:
        """Let a container that asked for a snapshot go on: as itself where it is the first, else as one restored."""
        container = next(each for each in self.containers if each.name == name)
        self._snapshots.add(container.server.id)
        told = container.folder / "restore-state.new"
        told.write_text(json.dumps({"task_id": name}))
        told.rename(container.folder / "restore-state.json")

    def stop(self, name: str) -> None:
        for container in self.containers:
            if container.name == name:
                self._stop(container)

    def _stop(self, container: Container) -> None:
        assert container.process is not None
        if not container.is_stopping:
            container.is_stopping = True
            container.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        for container in self.containers:
            assert container.process is not None
            container.process.kill()
            container.process.wait()
        for _, process in self._runs:
            process.kill()
            process.wait()
