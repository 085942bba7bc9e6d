"""An engine that listens and says nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_workers.chat import ChatEngine
from gpu_workers.engine import Identity
from gpu_workers.line import Line
from gpu_workers.metrics import Metrics
from gpu_workers.protocol import Start


def script() -> dict[str, Any]:
    return json.loads(Path(os.environ["WORKER_SCRIPT"]).read_text())


def is_told(what: str) -> bool:
    process = "zygote" if "zygote" in sys.argv[0] else "cold"
    return script().get(what) in (True, process)


class ScriptedEngine(ChatEngine):
    kind = "cascade"

    def __init__(self, checkpoint: str | None = None, max_sessions: int = 4) -> None:
        self.checkpoint = checkpoint
        self.places = script().get("places", max_sessions)

    def load(self) -> None:
        if is_told("fail_to_load"):
            sys.exit("The weights are damaged.")
        if is_told("hang_at_load"):
            time.sleep(60)

    def attach(self, identity: Identity, metrics: Metrics) -> None:
        if is_told("hang_at_attach"):
            time.sleep(60)
        if is_told("leave_process"):
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    async def converse(self, start: Start, line: Line) -> None:
        async for _ in line:
            pass

    async def close(self) -> None:
        pass
