"""The relay that one would write with Channels alone, for scale: `uvicorn benchmarks.gateway.stock:application`."""

from __future__ import annotations

import asyncio
import os

from channels.generic.websocket import AsyncWebsocketConsumer
from websockets.asyncio.client import connect


class Relay(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.worker = await connect(os.environ["WORKER_URL"], compression=None)
        await self.accept()
        self.listening = asyncio.create_task(self.listen())

    async def listen(self) -> None:
        async for message in self.worker:
            await self.send(bytes_data=message)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.worker.send(bytes_data)

    async def disconnect(self, code: int) -> None:
        self.listening.cancel()
        await self.worker.close()


application = Relay.as_asgi()
