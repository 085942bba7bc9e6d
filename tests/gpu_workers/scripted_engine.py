"""An engine that plays back what it hears, and does as the call's prompt says: for tests without models."""

from __future__ import annotations

import numpy as np

from gpu_workers import protocol
from gpu_workers.chat import ChatEngine
from gpu_workers.engine import Identity
from gpu_workers.line import Heard, Line, WrapUp
from gpu_workers.metrics import Metrics
from gpu_workers.protocol import Control, Start


class ScriptedEngine(ChatEngine):
    kind = "scripted"
    places = 64

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.starts: list[Start] = []
        self.events: list[WrapUp | Control] = []
        self.heard_messages: list[int] = []

    def load(self) -> None:
        pass

    def attach(self, identity: Identity, metrics: Metrics) -> None:
        self.identity = identity

    async def close(self) -> None:
        pass

    async def converse(self, start: Start, line: Line) -> None:
        self.starts.append(start)
        match start.agent.get("prompt"):
            case "hang up":
                return
            case "fail":
                raise RuntimeError("as told")
            case "speak":
                line.speak(np.full(protocol.SAMPLE_RATE_HZ * 3, 0.2, np.float32))
        async for event in line:
            if isinstance(event, Heard):
                self.heard_messages.append(event.message)
                if start.agent.get("prompt") == "echo":
                    line.speak(event.samples)
            else:
                self.events.append(event)
