"""A stand-in for the model hub: what huggingface_hub asks of it to read a repository, over HTTP on the loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


class ModelHub:
    """Repositories are folders. One with a token is gated: it is given to those who send it."""

    def __init__(self, address: str) -> None:
        self.url = address
        self.folders: dict[str, Path] = {}
        self.tokens: dict[str, str] = {}
        self.asked: list[str] = []
        self.broken: set[str] = set()
        """Files that break off while they are sent."""

    def add(self, repository: str, folder: Path, *, token: str = "") -> None:
        self.folders[repository] = folder
        if token:
            self.tokens[repository] = token


@contextlib.contextmanager
def model_hub() -> Iterator[ModelHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = server.hub = ModelHub(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub: ModelHub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        about = path.removeprefix("/api/models/") if path.startswith("/api/models/") else path.lstrip("/")
        repository = "/".join(about.split("/")[:2])
        folder = hub.folders.get(repository)
        if folder is None:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
        elif repository in hub.tokens and self.headers.get("Authorization") != f"Bearer {hub.tokens[repository]}":
            self._answer(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted."})
        elif path.startswith("/api/"):
            self._answer(200, {"Content-Type": "application/json"}, json.dumps(_listing(repository, folder)).encode())
        else:
            self._send_file(hub, folder, about.split("/resolve/")[1].partition("/")[2])

    def _send_file(self, hub: ModelHub, folder: Path, name: str) -> None:
        path = folder / name
        if not path.is_file():
            self._answer(404, {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": REVISION}
        if self.command == "GET" and name in hub.broken:
            self._answer(200, {**headers, "Content-Length": str(len(content))}, content[: len(content) // 2])
            self.close_connection = True
            return
        self._answer(200, headers, content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing: what was asked is kept."""


def _listing(repository: str, folder: Path) -> dict[str, Any]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        "id": repository,
        "sha": REVISION,
        "siblings": [
            {"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "blobId": "0"}
            for path in files
        ],
    }
