"""Where recordings lie: each store as its gateways and settings name it, and looked at from behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.object_server import BUCKET, ObjectServer


class Files:
    """A folder: what is used where nothing else is set."""

    name = "files"
    environment: Mapping[str, str] = {}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.folder = Path(settings["OPTIONS"]["location"])

    def names(self, folder: str) -> list[str]:
        return sorted(each.name for each in (self.folder / folder).glob("*"))

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        (self.folder / path).write_bytes(content)


class Objects:
    """A bucket."""

    name = "objects"

    def __init__(self, server: ObjectServer) -> None:
        self.server = server
        self.settings: dict[str, Any] = {"BACKEND": "content.object_store.ObjectStore", "OPTIONS": server.options}
        self.environment = {
            "RECORDINGS_STORAGE": self.settings["BACKEND"],
            "RECORDINGS_STORAGE_OPTIONS": json.dumps(server.options),
            **server.credentials,
        }

    def names(self, folder: str) -> list[str]:
        prefix = f"calls/{folder}/"
        found = self.server.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(each["Key"].removeprefix(prefix) for each in found)

    def read(self, path: str) -> bytes:
        return self.server.client.get_object(Bucket=BUCKET, Key=f"calls/{path}")["Body"].read()

    def write(self, path: str, content: bytes) -> None:
        self.server.client.put_object(Bucket=BUCKET, Key=f"calls/{path}", Body=content)


Store = Files | Objects
