"""The real web process, on a free port."""

from __future__ import annotations

import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.voice.processes import Process, wait_until


class WebProcess:
    """`uvicorn config.asgi`, whose pages call agents through `gateway_url`. `more`: further variables."""

    def __init__(self, folder: Path, *, gateway_url: str, more: dict[str, str] | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
        env = {"PUBLIC_URL": self.url, "GATEWAY_URL": gateway_url, **(more or {})}
        self.process = Process([*command, "--log-level", "warning"], output=folder / f"web-{port}.log", env=env)
        wait_until(self._answers, within_seconds=30, what="the start of the web process")

    def _answers(self) -> bool:
        assert self.process.child.poll() is None, self.process.output.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/pricing/", timeout=5) as response:
                return response.status == 200
        except urllib.error.HTTPError as problem:
            with problem:
                raise AssertionError(self.process.output.read_text()) from None
        except OSError:
            return False
