"""What a workspace has: Apps, their Servers, objects by name, and what was asked."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modal_proto import api_pb2

_numbers: Iterator[int] = itertools.count(1)


def new_id(kind: str) -> str:
    """Return an id such as `ap-12`."""
    return f"{kind}-{next(_numbers)}"


@dataclasses.dataclass
class Server:
    """A Server of an App: a Function with HTTP settings."""

    id: str
    name: str
    app: App
    data: api_pb2.FunctionData
    secrets: dict[str, str]
    autoscaler: api_pb2.AutoscalerSettings
    url: str = ""

    @property
    def function(self) -> api_pb2.Function:
        """The Function as it is on the GPU that comes first."""
        return self.data.ranked_functions[0].function

    def handle(self) -> api_pb2.FunctionHandleMetadata:
        return api_pb2.FunctionHandleMetadata(
            function_name=self.name,
            function_type=self.function.function_type or api_pb2.Function.FUNCTION_TYPE_FUNCTION,
            app_id=self.app.id,
            definition_id=f"de-{self.id}",
            _experimental_flash_urls=[self.url] if self.url else [],
        )


@dataclasses.dataclass
class App:
    id: str
    name: str
    tags: dict[str, str]
    state: int = api_pb2.APP_STATE_INITIALIZING
    servers: dict[str, Server] = dataclasses.field(default_factory=dict)
    created_at: float = dataclasses.field(default_factory=time.time)
    deploys: int = 0

    def metadata(self) -> api_pb2.AppHandleMetadata:
        return api_pb2.AppHandleMetadata(
            description=self.name,
            app_id=self.id,
            lifecycle=api_pb2.AppLifecycle(app_state=self.state, created_at=self.created_at, version=self.deploys),
            servers={name: server.id for name, server in self.servers.items()},
        )


@dataclasses.dataclass
class FunctionCall:
    """A call of a plain Function, from its input to what came of it."""

    id: str
    server: Server
    input: api_pb2.FunctionInput
    is_taken: bool = False
    chunks: list[api_pb2.DataChunk] = dataclasses.field(default_factory=list)
    """What a generator has yielded."""
    output: api_pb2.FunctionGetOutputsItem | None = None


@dataclasses.dataclass
class Volume:
    id: str
    name: str
    folder: Path


@dataclasses.dataclass
class Workspace:
    """What belongs to the tokens of one workspace."""

    name: str
    apps: dict[str, App] = dataclasses.field(default_factory=dict)
    """By id; those that were stopped, too."""
    secrets: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    images: dict[str, str] = dataclasses.field(default_factory=dict)
    """Ids by published name."""
    built: set[str] = dataclasses.field(default_factory=set)
    """Ids of layers."""
    volumes: dict[str, Volume] = dataclasses.field(default_factory=dict)
    """By name."""
    bill: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rates: dict[str, str] = dataclasses.field(default_factory=dict)
    """Dollars by Modal's names of prices."""

    def app_named(self, name: str) -> App | None:
        standing = (api_pb2.APP_STATE_DEPLOYED, api_pb2.APP_STATE_INITIALIZING)
        return next((app for app in self.apps.values() if app.name == name and app.state in standing), None)


@dataclasses.dataclass
class Injection:
    """What is to go wrong in a call: a gRPC status (at `sessions/start` an HTTP one), after a while.

    With `retry_after_seconds` it is throttling.
    """

    status: str
    message: str
    times: int
    delay_seconds: float = 0.0
    retry_after_seconds: float = 0.0


@dataclasses.dataclass
class State:
    credentials: dict[str, str]
    """Secrets by token id."""
    workspace_names: dict[str, str]
    """By token id."""
    folder: Path
    workspaces: dict[str, Workspace] = dataclasses.field(default_factory=dict)
    asked: list[tuple[str, Any]] = dataclasses.field(default_factory=list)
    injections: dict[str, Injection] = dataclasses.field(default_factory=dict)
    failing_restores: int = 0
    failing_build: str = ""
    """Part of a step of an image that fails."""
    contents: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Of files, by their SHA-256."""
    mounts: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    layers: dict[str, api_pb2.Image] = dataclasses.field(default_factory=dict)
    calls: dict[str, FunctionCall] = dataclasses.field(default_factory=dict)
    images: frozenset[str] = frozenset()
    """Names that every workspace has published, to begin with."""

    def workspace(self, name: str) -> Workspace:
        if name not in self.workspaces:
            published = {image: new_id("im") for image in self.images}
            self.workspaces[name] = Workspace(name, images=published)
        return self.workspaces[name]

    def add_volume(self, workspace: Workspace, name: str) -> Volume:
        volume_id = new_id("vo")
        volume = workspace.volumes[name] = Volume(volume_id, name, self.folder / "volumes" / volume_id)
        volume.folder.mkdir(parents=True)
        return volume

    def volume(self, volume_id: str) -> Volume:
        return next(
            volume
            for workspace in self.workspaces.values()
            for volume in workspace.volumes.values()
            if volume.id == volume_id
        )

    def servers(self) -> list[Server]:
        return [
            server
            for workspace in self.workspaces.values()
            for app in workspace.apps.values()
            for server in app.servers.values()
        ]
