"""A client of moshi-server's speech-to-text that does on the wire what Unmute's does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgpack
import numpy as np
import websockets

from gpu_workers.pcm import Samples
from tests.gpu_workers.moshi_server_clients import Fields, ServerClient, started_up

FIELDS: Fields = {
    "Ready": {"boot": dict},
    "Word": {"text": str, "start_time": float},
    "EndWord": {"stop_time": float},
    "Step": {"step_idx": int, "prs": list, "buffered_pcm": int},
    "Marker": {"id": int},
    "Error": {"message": str},
}


def pack(document: dict[str, Any]) -> bytes:
    return msgpack.packb(document, use_bin_type=True, use_single_float=True)


def audio(samples: Samples | Sequence[float]) -> bytes:
    return pack({"type": "Audio", "pcm": np.asarray(samples, np.float32).tolist()})


class Client(ServerClient):
    def __init__(self, socket: websockets.ClientConnection, boot: dict[str, Any]) -> None:
        super().__init__(socket, FIELDS, boot)
        self.step_at: list[float] = []
        """When each step was told, on the clock of `time.monotonic`."""

    async def send_audio(self, samples: Samples | Sequence[float]) -> None:
        await self.socket.send(audio(samples))

    async def send_marker(self, marker_id: int) -> None:
        await self.socket.send(pack({"type": "Marker", "id": marker_id}))

    async def receive(self) -> None:
        """Take what comes until the worker closes."""
        async for message in self.socket:
            if self.take(message)["type"] == "Step":
                self.step_at.append(time.monotonic())

    def words(self) -> list[tuple[str, float]]:
        return [(word["text"], word["start_time"]) for word in self.of("Word")]

    async def wait_for(self, condition: Callable[[], object], *, limit_seconds: float = 20) -> None:
        async with asyncio.timeout(limit_seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def wait_until_closed(self) -> int | None:
        async with asyncio.timeout(20):
            await self.socket.wait_closed()
        return self.socket.close_code


@contextlib.asynccontextmanager
async def unmute(port: int, *, is_reading: bool = True) -> AsyncIterator[Client]:
    """Start up as Unmute does; see started_up."""
    async with started_up(f"ws://127.0.0.1:{port}/api/asr-streaming", FIELDS) as (socket, boot):
        client = Client(socket, boot)
        receiving = asyncio.create_task(client.receive()) if is_reading else None
        try:
            yield client
        finally:
            if receiving is not None:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
