"""What clients of moshi-server's protocols have in common, on the wire of Unmute's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import websockets

Fields = dict[str, dict[str, type]]
"""By the type of a message: the names and types of what it holds."""


class AtCapacity(Exception):
    pass


class ServerClient:
    def __init__(self, socket: websockets.ClientConnection, fields: Fields, boot: dict[str, Any]) -> None:
        self.socket = socket
        self.boot = boot
        self.received: list[dict[str, Any]] = []
        self._fields = fields

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [document for document in self.received if document["type"] == kind]

    def take(self, message: str | bytes) -> dict[str, Any]:
        """Keep a message of the worker's."""
        self.received.append(unpack(message, self._fields))
        return self.received[-1]


def unpack(message: str | bytes, fields: Fields) -> dict[str, Any]:
    """Return a message of the worker, which is of exactly the protocol's form."""
    assert isinstance(message, bytes)
    document: dict[str, Any] = msgpack.unpackb(message)
    assert {name: type(value) for name, value in document.items() if name != "type"} == fields[document["type"]]
    return document


@contextlib.asynccontextmanager
async def started_up(address: str, fields: Fields) -> AsyncIterator[tuple[websockets.ClientConnection, dict[str, Any]]]:
    """Start up as Unmute does: what comes first must be Ready, and an Error means that the worker is full.

    Gives the socket, and how the container came to be.

    Raises:
        AtCapacity
    """
    async with websockets.connect(address, additional_headers={"kyutai-api-key": "public_token"}) as socket:
        first = unpack(await asyncio.wait_for(socket.recv(), timeout=5), fields)
        if first["type"] == "Error":
            raise AtCapacity(first["message"])
        assert first["type"] == "Ready"
        yield socket, first["boot"]
