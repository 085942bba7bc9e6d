"""A cascade worker that is told where the stand-in for managed services is, and what that one was asked."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_workers.protocol import Service, Start
from gpu_workers.tokens import SESSION_HEADER
from tests.gpu_workers.callers import Caller
from tests.gpu_workers.worker_processes import cold_worker, process


class ManagedWorker:
    def __init__(self, port: int, asked: Path, log: Path) -> None:
        self.port, self._asked, self._log = port, asked, log

    def caller(self, agent: dict[str, Any], *, part: str, provider: str, key: str, **start: Any) -> Any:
        """Call an agent of whose work a service does a part."""
        told = Start(call_id="c", agent=agent, services={part: Service(provider, key)}, **start)
        # As a gateway that holds a session: its start is waited for, however busy the machine is.
        return Caller.connected(self.port, told, headers={SESSION_HEADER: uuid.uuid4().hex})

    def asked(self, provider: str) -> list[dict[str, Any]]:
        lines = self._asked.read_text().splitlines() if self._asked.exists() else []
        return [event for event in map(json.loads, lines) if event["provider"] == provider]

    def log(self) -> str:
        return self._log.read_text()


@contextlib.contextmanager
def managed_worker(folder: Path) -> Iterator[ManagedWorker]:
    asked, log = folder / "asked.log", folder / "worker.log"
    with process("tests.providers", "--log", str(asked), log=folder / "providers.log") as providers:
        assert providers.stdout is not None
        port = int(providers.stdout.readline())
        names = ("WORKER_ELEVENLABS_URL", "WORKER_CARTESIA_URL", "WORKER_DEEPGRAM_URL")
        where = dict.fromkeys(names, f"http://127.0.0.1:{port}")
        where["WORKER_OPENAI_REALTIME_URL"] = f"ws://127.0.0.1:{port}/v1/realtime"
        with cold_worker(log, **where) as (ready, _):
            yield ManagedWorker(ready["port"], asked, log)
