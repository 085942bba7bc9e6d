"""The stand-in as a process, for tests, and what they ask of it."""

from __future__ import annotations

import contextlib
import json
import secrets
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.gpu_workers.worker_processes import process, read_line

OPERATORS, TENANTS = "operators", "tenants-own"
"""Workspaces."""


class ModalServer:
    """A running stand-in with two workspaces; a server in its place would be found by `MODAL_SERVER_URL`, too."""

    def __init__(self, url: str, control: str, folder: Path, tokens: Sequence[tuple[str, str]]) -> None:
        self.url, self.folder = url, folder
        self.token_id, self.token_secret = tokens[0]
        self.own_tokens = [{"token_id": token_id, "token_secret": secret} for token_id, secret in tokens[1:]]
        """Two tokens of a workspace that a tenant has of its own."""
        self._control = control

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": self.token_id,
            "MODAL_TOKEN_SECRET": self.token_secret,
            "MODAL_CONFIG_PATH": "/dev/null",
        }

    def asked(self, call: str | None = None) -> list[dict[str, Any]]:
        """Return the requests of one call, oldest first; of all calls with their names where none is given."""
        everything: list[dict[str, Any]] = self._get("/asked")
        return [each["request"] for each in everything if each["call"] == call] if call else everything

    def running(self) -> dict[str, Any]:
        document: dict[str, Any] = self._get("/running")
        return document

    def containers(self) -> list[dict[str, Any]]:
        return [each for each in self.running()["containers"] if each["ready"]]

    def inject(self, call: str, status: str = "", message: str = "", **more: Any) -> None:
        self._post("/inject", {"call": call, "status": status, "message": message, **more})

    def change(self, **what: Any) -> None:
        self._post("/change", what)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._control + path, timeout=10) as answer:
            return json.load(answer)

    def _post(self, path: str, document: dict[str, Any]) -> None:
        request = urllib.request.Request(
            self._control + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextlib.contextmanager
def modal_server(folder: Path, *, images: Sequence[str] = ()) -> Iterator[ModalServer]:
    """Run the stand-in. Its credentials are its own: connections are kept by them."""
    tokens = [(f"ak-{secrets.token_hex(6)}", f"as-{secrets.token_hex(12)}") for _ in range(3)]
    arguments = ["--state", str(folder)]
    for token, workspace in zip(tokens, (OPERATORS, TENANTS, TENANTS), strict=True):
        arguments += ["--credentials", ":".join([*token, workspace])]
    for image in images:
        arguments += ["--image", image]
    folder.mkdir(parents=True, exist_ok=True)
    with process("tests.modal_server", *arguments, log=folder / "modal_server.log") as running:
        assert running.stdout is not None
        listening = read_line(running.stdout, limit_seconds=30)
        yield ModalServer(listening["url"], listening["control"], folder, tokens)
