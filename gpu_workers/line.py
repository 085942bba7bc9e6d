"""A caller's line as an engine sees it: sound and requests in, sound, words and metadata out.

Between it and the socket lie the Moshi protocol, Ogg Opus and the pace of speech. No engines or capacity here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import sphn
from aiohttp import WSMsgType, web

from gpu_workers import protocol
from gpu_workers.pcm import Samples
from gpu_workers.playout import Playout, Reached
from gpu_workers.protocol import CloseCode, Control, Kind

logger = logging.getLogger(__name__)

SEND_TIMEOUT_SECONDS = 10.0
SILENT_LINE_TIMEOUT_SECONDS = 60.0
"""A caller whose client sends nothing at all for so long is gone."""
LONGEST_AHEAD_SECONDS = 30.0
"""How far a caller's sound may be ahead of the clock. A hiccup of the network is; a flood would starve all sessions."""
DECODED_AT_ONCE_BYTES = 4096
"""The reader of Ogg Opus fails on much more in one piece."""


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What one audio message of the caller carried."""

    samples: Samples
    message: int
    """Index of the message among the caller's audio messages, from 0."""
    arrived_at: float
    """On the clock of `time.monotonic`."""


@dataclasses.dataclass(frozen=True, slots=True)
class WrapUp:
    """The gateway asks the agent to close in words."""

    seconds_left: int


@dataclasses.dataclass(frozen=True, slots=True)
class Pressed:
    """The caller pressed keys of a telephone."""

    keys: str


Event = Heard | WrapUp | Control | Pressed

Tell = Callable[[dict[str, Any]], Awaitable[None]]
"""Sends metadata to the gateway."""


class LineClosed(Exception):
    """The line must be closed, with this code and sentence."""

    def __init__(self, code: CloseCode, sentence: str | None = None) -> None:
        super().__init__(sentence or code.reason)
        self.code = code
        self.sentence = sentence


class Line:
    """One session's line. Iterate over it for what the caller sends; the iteration ends when the caller hangs up."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        codec_threads: Executor,
        *,
        received: bytes | None = None,
        observe: Callable[[dict[str, Any]], None] = lambda document: None,
    ) -> None:
        self._socket = socket
        self._observe = observe
        self._received = received  # a message that came before anybody iterated
        self._reader = sphn.OpusStreamReader(protocol.SAMPLE_RATE_HZ)
        self._heard_until = 0.0
        """When what was heard would have been over, had it been spoken as it came."""
        self._playout = Playout(self.send, codec_threads)
        self.messages_heard = 0

    # What the caller sends

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield what the caller sends until it hangs up.

        Raises:
            LineClosed: a message was not of the protocol's form, or nothing came for too long.
        """
        while (message := await self._receive()) is not None:
            if (event := await self._read(message)) is not None:
                yield event

    async def _receive(self) -> bytes | None:
        if self._received is not None:
            received, self._received = self._received, None
            return received
        try:
            return await receive_binary(self._socket, timeout_seconds=SILENT_LINE_TIMEOUT_SECONDS)
        except TimeoutError:
            raise LineClosed(CloseCode.TIMED_OUT) from None

    async def _read(self, message: bytes) -> Event | None:
        try:
            match protocol.read_kind(message):
                case Kind.AUDIO:
                    return self._decode(message[1:])
                case Kind.CONTROL:
                    return Control(message[1]) if len(message) == 2 and message[1] in set(Control) else None
                case Kind.METADATA:
                    document = protocol.read_metadata(message)
                    if document["type"] == "wrap_up":
                        return WrapUp(int(document.get("seconds_left", 0)))
                case Kind.KEYS:
                    return Pressed(protocol.read_keys(message))
                case Kind.PING:
                    await self.send(protocol.PING)
                # All other kinds, unknown ones among them, say nothing to a worker.
        except (protocol.ProtocolError, TypeError, ValueError) as problem:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, str(problem)) from problem
        return None

    def _decode(self, ogg_opus: bytes) -> Heard | None:
        """Return what an audio message carries; its first messages, Ogg headers, carry no sound."""
        message, self.messages_heard = self.messages_heard, self.messages_heard + 1
        parts = []
        for at in range(0, len(ogg_opus), DECODED_AT_ONCE_BYTES):
            try:
                samples = self._reader.append_bytes(ogg_opus[at : at + DECODED_AT_ONCE_BYTES])  # 0.1 ms for 40 ms
            except Exception as problem:
                raise LineClosed(CloseCode.PROTOCOL_ERROR, f"Audio was not Ogg Opus: {problem}") from problem
            if len(samples):
                parts.append(np.asarray(samples, np.float32))
                self._keep_pace(len(samples))
        return Heard(np.concatenate(parts), message, time.monotonic()) if parts else None

    def _keep_pace(self, samples: int) -> None:
        at = time.monotonic()
        self._heard_until = max(self._heard_until, at) + samples / protocol.SAMPLE_RATE_HZ
        if self._heard_until - at > LONGEST_AHEAD_SECONDS:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, "Audio came far faster than it is spoken.")

    # What the agent says

    def speak(self, samples: Samples) -> None:
        """Queue samples (24 kHz mono, -1 to 1) to be sent in real time."""
        self._playout.put(samples)

    def when_sent(self, reached: Reached) -> None:
        """Have `reached` called when all that was queued before was sent, with the index of the last audio message."""
        self._playout.mark(reached)

    def stop_speaking(self) -> None:
        """Forget all that was queued and not sent."""
        self._playout.stop()

    async def wait_until_heard(self) -> None:
        """Wait until the caller can have heard all that was sent."""
        await asyncio.sleep(self._playout.unheard_seconds)

    async def play(self) -> None:
        """Send what is queued, for ever: the session runs this beside the engine."""
        await self._playout.run()

    async def send_text(self, words: str) -> None:
        await self.send(protocol.text(words))

    async def send_metadata(self, document: dict[str, Any]) -> None:
        self._observe(document)
        await self.send(protocol.metadata(document))

    async def send(self, message: bytes) -> None:
        """Send one message.

        Raises:
            ConnectionError: the caller has gone, or takes nothing any more.
        """
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._socket.send_bytes(message)
        except TimeoutError:
            raise ConnectionResetError("the caller takes nothing any more") from None


async def receive_binary(socket: web.WebSocketResponse, *, timeout_seconds: float) -> bytes | None:
    """Return the next message, or None when the other side has closed.

    Raises:
        LineClosed: the message was text.
        TimeoutError: none came in time.
    """
    message = await socket.receive(timeout=timeout_seconds)
    match message.type:
        case WSMsgType.BINARY:
            return bytes(message.data)
        case WSMsgType.TEXT:
            raise LineClosed(CloseCode.UNSUPPORTED_DATA)
    return None
