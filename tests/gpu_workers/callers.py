"""A caller for tests: a real WebSocket, real Ogg Opus, in real time; and the workers it calls."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import aiohttp
import numpy as np
import sphn
from aiohttp import WSMsgType, web

from gpu_workers import protocol
from gpu_workers.engine import Engine, Identity
from gpu_workers.pcm import Samples
from gpu_workers.protocol import BootKind, Kind, Start
from gpu_workers.serving import Worker

FRAME_SAMPLES = 960
FRAME_SECONDS = FRAME_SAMPLES / protocol.SAMPLE_RATE_HZ
LOUD = 0.01


@dataclasses.dataclass
class Received:
    kind: Kind
    payload: bytes
    at: float
    samples: Samples | None = None


class Caller:
    """One call. What comes from the worker is gathered in `received`; a line that is open is never idle."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.received: list[Received] = []
        self.sent_messages = 0
        self._writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
        self._reader = sphn.OpusStreamReader(protocol.SAMPLE_RATE_HZ)
        self._clock = time.monotonic()
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(
        cls, port: int, start: Start | None = None, *, headers: dict[str, str] | None = None
    ) -> AsyncIterator[Self]:
        """Connect, send `start`, and wait for the handshake."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/api/chat", headers=headers, max_msg_size=0) as socket,
        ):
            caller = cls(socket)
            try:
                if start is not None:
                    await socket.send_bytes(start.to_message())
                    await caller.wait_for(lambda: any(item.kind is Kind.HANDSHAKE for item in caller.received))
                yield caller
            finally:
                await socket.close()
                await caller._receiving

    async def _receive(self) -> None:
        async for message in self.socket:
            if message.type is WSMsgType.BINARY:
                item = Received(Kind(message.data[0]), message.data[1:], time.monotonic())
                if item.kind is Kind.AUDIO:
                    item.samples = self._reader.append_bytes(item.payload)
                self.received.append(item)

    async def send_audio(self, samples: Samples) -> None:
        """Speak in real time, frame by frame."""
        self._clock = max(self._clock, time.monotonic() - FRAME_SECONDS)
        for at in range(0, len(samples), FRAME_SAMPLES):
            frame = samples[at : at + FRAME_SAMPLES].astype(np.float32)
            frame = np.pad(frame, (0, FRAME_SAMPLES - len(frame)))
            self._clock += FRAME_SECONDS
            await asyncio.sleep(self._clock - time.monotonic())
            await self.socket.send_bytes(protocol.audio(self._writer.append_pcm(frame)))
            self.sent_messages += 1

    async def be_silent(self, seconds: float) -> None:
        await self.send_audio(np.zeros(int(seconds * protocol.SAMPLE_RATE_HZ), np.float32))

    async def be_silent_until(self, condition: Callable[[], Any], *, limit_seconds: float = 15) -> None:
        """Keep the line open, silently, until a condition holds."""
        deadline = time.monotonic() + limit_seconds
        while not condition():
            assert time.monotonic() < deadline, f"did not come to pass; received {self.summary()}"
            assert not self.socket.closed, f"closed with {self.socket.close_code}; received {self.summary()}"
            await self.be_silent(FRAME_SECONDS)

    async def wait_for(self, condition: Callable[[], Any], *, limit_seconds: float = 10) -> None:
        """Poll until a condition holds, sending nothing."""
        deadline = time.monotonic() + limit_seconds
        while not condition():
            assert time.monotonic() < deadline, f"did not come to pass; received {self.summary()}"
            await asyncio.sleep(0.005)

    async def wait_until_closed(self) -> int:
        """Return the close code of the other side."""
        await asyncio.wait_for(self._receiving, timeout=10)
        assert self.socket.close_code is not None
        return self.socket.close_code

    # What came

    def metadata(self, kind: str) -> list[dict[str, Any]]:
        documents = [
            protocol.read_metadata(b"\x04" + item.payload) for item in self.received if item.kind is Kind.METADATA
        ]
        return [document for document in documents if document["type"] == kind]

    def transcripts(self, role: str) -> list[str]:
        return [document["text"] for document in self.metadata("transcript") if document["role"] == role]

    def errors(self) -> list[str]:
        return [item.payload.decode() for item in self.received if item.kind is Kind.ERROR]

    def text(self) -> str:
        return "".join(item.payload.decode() for item in self.received if item.kind is Kind.TEXT)

    def audio(self) -> list[Received]:
        return [item for item in self.received if item.kind is Kind.AUDIO]

    def loud_audio(self, *, since: float = 0.0) -> list[Received]:
        """Return the audio messages that are not silence."""
        return [
            item
            for item in self.audio()
            if item.at >= since and item.samples is not None and len(item.samples) and np.abs(item.samples).max() > LOUD
        ]

    def summary(self) -> str:
        kinds = [item.kind.name for item in self.received]
        return f"{ {kind: kinds.count(kind) for kind in kinds} }, {self.metadata('transcript')}, {self.errors()}"


@contextlib.asynccontextmanager
async def serving(
    engine: Engine, *, max_sessions: int = 2, session_key: bytes | None = None
) -> AsyncIterator[tuple[Worker, int]]:
    """Serve an engine in this process, and give the worker and its port."""
    identity = Identity(container="in-test", boot=BootKind.COLD, max_sessions=max_sessions, session_key=session_key)
    worker = Worker(engine, identity)
    engine.attach(identity, worker.metrics)
    runner = web.AppRunner(worker.application, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    worker.became_ready(boot_ms=12.5)
    try:
        yield worker, runner.addresses[0][1]
    finally:
        await worker.drain(grace_seconds=0)
        await runner.cleanup()
        await engine.close()
