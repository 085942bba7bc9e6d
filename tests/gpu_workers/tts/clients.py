"""A client of moshi-server's text-to-speech that does on the wire what Unmute's does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import msgpack
import numpy as np
import websockets

from gpu_workers.pcm import Samples
from tests.gpu_workers.moshi_server_clients import Fields, ServerClient, started_up

FIELDS: Fields = {
    "Ready": {"boot": dict},
    "Text": {"text": str, "start_s": float, "stop_s": float},
    "Audio": {"pcm": list},
    "Error": {"message": str},
}


class Client(ServerClient):
    async def send(self, **document: Any) -> None:
        await self.socket.send(msgpack.packb(document))

    async def say(self, text: str) -> None:
        await self.send(type="Text", text=text)

    async def receive(self, *, limit_seconds: float = 30) -> int | None:
        """Take what comes until the worker closes, and return its close code."""
        async with asyncio.timeout(limit_seconds):
            with contextlib.suppress(websockets.ConnectionClosedError):
                async for message in self.socket:
                    self.take(message)
        return self.socket.close_code

    async def receive_one(self, kind: str, *, limit_seconds: float = 10) -> dict[str, Any]:
        """Take what comes until a message of this type."""
        async with asyncio.timeout(limit_seconds):
            while True:
                if (taken := self.take(await self.socket.recv()))["type"] == kind:
                    return taken

    def words(self) -> list[str]:
        return [word["text"] for word in self.of("Text")]

    def sound(self) -> Samples:
        return np.concatenate([np.asarray(message["pcm"], np.float32) for message in self.of("Audio")])


@contextlib.asynccontextmanager
async def unmute(port: int, **query: str) -> AsyncIterator[Client]:
    """Start up as Unmute does; see started_up."""
    address = f"ws://127.0.0.1:{port}/api/tts_streaming?" + urlencode({"format": "PcmMessagePack", **query})
    async with started_up(address, FIELDS) as (socket, boot):
        yield Client(socket, FIELDS, boot)
