"""Callers who speak all the time, and come back by themselves when their connection is lost."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import sphn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode, Kind

FRAME_SAMPLES = 1_920
FRAMES_A_SECOND = protocol.SAMPLE_RATE_HZ / FRAME_SAMPLES
"""Moshi's: each message is 80 ms."""
RESUMABLE = {1006, 1012, *(int(code) for code in CloseCode if code.resumable)}
LAST_WORDS_SECONDS = 0.5
IN_FLIGHT_SECONDS = 0.5
CONNECT_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0


def speech(seconds: float) -> list[bytes]:
    """Return audio messages of one Ogg Opus stream; its header pages come with the first."""
    writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
    at = np.arange(FRAME_SAMPLES)
    messages = []
    for number in range(round(seconds * FRAMES_A_SECOND)):
        wave = 0.3 * np.sin(2 * np.pi * 250 * (at + number * FRAME_SAMPLES) / protocol.SAMPLE_RATE_HZ)
        messages.append(protocol.audio(writer.append_pcm(wave.astype(np.float32))))
    return messages


@dataclasses.dataclass
class Heard:
    """What one caller sent and heard."""

    call_id: str = ""
    sent: int = 0
    heard: int = 0
    pages: list[bytes] = dataclasses.field(default_factory=list)
    longest_gap_ms: float = 0.0
    lost_connections: int = 0
    in_flight: int = 0
    """Sent so shortly before a connection was lost that nobody may have taken them."""
    returns: int = 0
    kills: int = 0
    """How often the gateway that it was at was killed."""
    dropped: str = ""
    """Why the call was lost for good; empty where it was not."""


class Caller:
    """One call from its ticket to a goodbye. `gateways` gives the addresses of those that are in service."""

    def __init__(self, path: str, speech: Sequence[bytes], gateways: Callable[[], list[str]]) -> None:
        self.result = Heard()
        self._path = path
        self._speech = speech
        self._gateways = gateways
        self._token = ""
        self._resume_seconds = 0.0
        self._heard_at: float | None = None
        self._sent_at: collections.deque[float] = collections.deque(maxlen=50)
        self._connection: ClientConnection | None = None
        self.gateway = ""
        """At which it was last."""
        self.is_ready = asyncio.Event()

    def cut(self) -> None:
        """Lose the network."""
        if self._connection is not None:
            self._connection.transport.abort()

    async def call(self, until: asyncio.Event) -> None:
        """Speak until told to stop, whatever happens to the connection."""
        path, lost_at, pause = f"{self._path}?resume=1", 0.0, FIRST_PAUSE_SECONDS
        while not self.result.dropped:
            code = await self._connected(path, until)
            if code is None:
                return
            if not self._token and code == CloseCode.TRY_AGAIN_LATER:  # it has not begun, and the ticket is still good
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)
                continue
            if not self._token or code not in RESUMABLE:
                self.result.dropped = f"closed with {code}"
                return
            now = time.monotonic()
            if self._connection is not None:  # it was a connection in which the call went on
                self.result.lost_connections += 1
                self.result.in_flight += sum(sent_at > now - IN_FLIGHT_SECONDS for sent_at in self._sent_at)
                self._connection, lost_at, pause = None, now, FIRST_PAUSE_SECONDS
            if now - lost_at > self._resume_seconds:
                self.result.dropped = f"not back within {self._resume_seconds:.0f} s ({code})"
                return
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            path = f"/call/resume/{self._token}/api/chat"

    async def _connected(self, path: str, until: asyncio.Event) -> int | None:
        """Hold one connection; returns its close code, None where the caller said goodbye."""
        gateways = self._gateways()
        if not gateways:
            return 1006
        try:
            gateway = random.choice(gateways)
            connection = await connect(
                gateway + path,
                compression=None,
                proxy=None,
                open_timeout=CONNECT_SECONDS,
                close_timeout=2,
                ping_interval=None,
            )
        except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
            return 1006
        speaking: asyncio.Task[None] | None = None
        stopping = asyncio.create_task(self._stop(connection, until))
        try:
            while True:
                message = await connection.recv()
                assert isinstance(message, bytes)
                if message[0] == Kind.HANDSHAKE:
                    self._connection, self.gateway = connection, gateway
                    speaking = asyncio.create_task(self._speak(connection, until))
                self._hear(message)
        except ConnectionClosed:
            return None if until.is_set() and connection.close_code == 1000 else connection.close_code
        finally:
            for task in filter(None, (speaking, stopping)):
                task.cancel()
            await connection.close()

    async def _speak(self, connection: ClientConnection, until: asyncio.Event) -> None:
        began = time.monotonic()
        with contextlib.suppress(ConnectionClosed):
            for number, message in enumerate(self._speech):
                if until.is_set():
                    return
                await connection.send(message)
                self.result.sent += 1
                self._sent_at.append(time.monotonic())
                await asyncio.sleep(max(0.0, began + (number + 1) / FRAMES_A_SECOND - time.monotonic()))

    async def _stop(self, connection: ClientConnection, until: asyncio.Event) -> None:
        await until.wait()
        await asyncio.sleep(LAST_WORDS_SECONDS)  # what is on its way is still heard
        await connection.close()

    def _hear(self, message: bytes) -> None:
        if message[0] == Kind.AUDIO:
            at = time.monotonic()
            if self._heard_at is not None:
                self.result.longest_gap_ms = max(self.result.longest_gap_ms, (at - self._heard_at) * 1000)
            self._heard_at = at
            self.result.heard += 1
            self.result.pages.append(message[1:])
            return
        if message[0] != Kind.METADATA:
            return
        document = protocol.read_metadata(message)
        if document["type"] == "call":
            self.result.call_id, self._token = document["call_id"], document["resume_token"]
            self.result.returns, self._resume_seconds = document["resumes"], document["resume_seconds"]
            self.is_ready.set()


def can_be_decoded(pages: Sequence[bytes]) -> bool:
    """Return whether one decoder takes all that a caller heard, over all workers and connections."""
    reader = sphn.OpusStreamReader(protocol.SAMPLE_RATE_HZ)
    try:
        samples = sum(len(reader.append_bytes(page)) for page in pages)
    except ValueError:
        return False
    return samples > 0.9 * (len(pages) - 2) * FRAME_SAMPLES
