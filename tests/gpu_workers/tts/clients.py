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

FIELDS: dict[str, dict[str, type]] = {
    "Ready": {"boot": dict},
    "Text": {"text": str, "start_s": float, "stop_s": float},
    "Audio": {"pcm": list},
    "Error": {"message": str},
}


class AtCapacity(Exception):
    pass


class Client:
    def __init__(self, socket: websockets.ClientConnection, boot: dict[str, Any]) -> None:
        self.socket = socket
        self.boot = boot
        self.received: list[dict[str, Any]] = []

    async def send(self, **document: Any) -> None:
        await self.socket.send(msgpack.packb(document))

    async def say(self, text: str) -> None:
        await self.send(type="Text", text=text)

    async def receive(self, *, limit_seconds: float = 30) -> int | None:
        """Take what comes until the worker closes, and return its close code."""
        async with asyncio.timeout(limit_seconds):
            with contextlib.suppress(websockets.ConnectionClosedError):
                async for message in self.socket:
                    self.received.append(unpack(message))
        return self.socket.close_code

    async def receive_one(self, kind: str, *, limit_seconds: float = 10) -> dict[str, Any]:
        """Take what comes until a message of this type."""
        async with asyncio.timeout(limit_seconds):
            while True:
                self.received.append(unpack(await self.socket.recv()))
                if self.received[-1]["type"] == kind:
                    return self.received[-1]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [document for document in self.received if document["type"] == kind]

    def words(self) -> list[str]:
        return [word["text"] for word in self.of("Text")]

    def sound(self) -> Samples:
        return np.concatenate([np.asarray(message["pcm"], np.float32) for message in self.of("Audio")])


def unpack(message: str | bytes) -> dict[str, Any]:
    """Return a message of the worker, which is of exactly the protocol's form."""
    assert isinstance(message, bytes)
    document = msgpack.unpackb(message)
    fields = FIELDS[document["type"]]
    assert {name: type(value) for name, value in document.items() if name != "type"} == fields
    return document


@contextlib.asynccontextmanager
async def unmute(port: int, **query: str) -> AsyncIterator[Client]:
    """Start up as Unmute does: what comes first must be Ready, and an Error means that the worker is full.

    Raises:
        AtCapacity
    """
    address = f"ws://127.0.0.1:{port}/api/tts_streaming?" + urlencode({"format": "PcmMessagePack", **query})
    async with websockets.connect(address, additional_headers={"kyutai-api-key": "public_token"}) as socket:
        first = unpack(await asyncio.wait_for(socket.recv(), timeout=5))
        if first["type"] == "Error":
            raise AtCapacity(first["message"])
        assert first["type"] == "Ready"
        yield Client(socket, first["boot"])
