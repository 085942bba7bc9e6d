"""A media stream from the carrier's side, message by message, in real time: sound every 20 ms both ways, marks when
their turn comes, keys, and what a bad network does to it. What messages look like is each carrier's own.
"""

from __future__ import annotations

import abc
import asyncio
import base64
import collections
import contextlib
import json
import random
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from tests.carriers.calls import SILENCE, Call, Frozen, Hung, Playout, read_frames
from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMU, RATE_HZ

QUIET_SECONDS = 1.0
"""A caller takes the agent for finished after so long."""


class StreamPeer(abc.ABC):
    """One media stream, from its start to its end."""

    def __init__(self, call: Call, socket: aiohttp.ClientWebSocketResponse, parameters: dict[str, str]) -> None:
        self.call = call
        self.socket = socket
        self.id = self.new_id()
        self.parameters = parameters
        self.playout = Playout(call)
        self.sequence = 0
        self.chunk = 0
        self.to_say: collections.deque[bytes] = collections.deque()
        self.is_closed = False
        self.rng = random.Random(7)
        self.trouble: dict[str, Any] = {}
        self.held_back: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Hold it until the other side closes it. Raises Hung where the caller ended it."""
        for message in self.first_messages():
            await self.send(message)
        reading = asyncio.create_task(self._read())
        acting = asyncio.create_task(self._act())
        ticking = asyncio.create_task(self._tick())
        try:
            done, _ = await asyncio.wait({reading, acting, ticking}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if acting in done and reading not in done:
                await asyncio.wait({reading}, timeout=60)
        finally:
            for task in (reading, acting, ticking):
                task.cancel()
            await asyncio.gather(reading, acting, ticking, return_exceptions=True)

    async def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            await self.socket.send_json(message)

    def next_number(self) -> int:
        self.sequence += 1
        return self.sequence

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            match self.read(json.loads(message.data)):
                case ("play", str(payload)):
                    self.playout.put(base64.b64decode(payload, validate=True))
                case ("mark", str(name)):
                    self.playout.mark(name)
                case ("clear", _):
                    self.call.events.append("clear")
                    for answer in self.cleared(self.playout.clear()):
                        await self.send(answer)
                case other:
                    self.call.problem = f"an unknown message: {other}"
        self.is_closed = True

    async def _tick(self) -> None:
        began, due = time.monotonic(), time.monotonic()
        while True:
            payload = self.to_say.popleft() if self.to_say else SILENCE
            self.chunk += 1
            timestamp = str(round((time.monotonic() - began) * 1000))
            await self._send_media(self.media(timestamp, base64.b64encode(payload).decode()))
            for name in self.playout.tick():
                await self.send(self.played(name))
            due += FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _send_media(self, media: dict[str, Any]) -> None:
        """Send it, or do to it what a bad network does."""
        if self.trouble.get("loses") and self.chunk % self.trouble["loses"] == 0:
            return
        if self.trouble.get("swaps") and self.chunk % self.trouble["swaps"] == 0:
            self.held_back.append(media)
            return
        await self.send(media)
        if self.trouble.get("repeats") and self.chunk % self.trouble["repeats"] == 0:
            await self.send(media)
        while self.held_back:
            await self.send(self.held_back.pop())
        if self.trouble.get("babbles") and self.chunk % self.trouble["babbles"] == 0:
            for nonsense in ("no json", "[]", '{"event":"media"}', '{"event":"media","media":{"chunk":"x"}}', "{}"):
                await self.socket.send_str(nonsense)

    async def _act(self) -> None:
        """Do what the caller's steps say."""
        for step in self.call.steps:
            match step:
                case {"say": path}:
                    self.to_say.extend(read_frames(Path(path)))
                    while self.to_say:
                        await asyncio.sleep(FRAME_SECONDS)
                    self.playout.quiet_frames = 0
                case {"tone": seconds}:
                    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
                    tone = PCMU.encode((0.3 * np.sin(2 * np.pi * 330 * at)).astype(np.float32))
                    self.to_say.extend(tone[i : i + FRAME_SAMPLES] for i in range(0, len(tone), FRAME_SAMPLES))
                    while self.to_say:
                        await asyncio.sleep(FRAME_SECONDS)
                case {"hear": seconds}:
                    await self._hear(seconds, step.get("within", 30))
                case {"keys": digits}:
                    for digit in digits:
                        await self.send(self.key(digit))
                        await asyncio.sleep(0.15)
                case {"trouble": trouble}:
                    self.trouble = trouble
                case {"wait": seconds}:
                    await asyncio.sleep(seconds)
                case {"stay": _}:
                    await asyncio.sleep(120)
                case {"freeze": _}:
                    # The network says nothing any more, and the call is over elsewhere.
                    raise Frozen
                case {"hang_up": _}:
                    for message in self.last_messages():
                        await self.send(message)
                    await self.socket.close()
                    raise Hung

    async def _hear(self, seconds: float, within: float) -> None:
        """Wait until so much was said, and the agent is quiet again."""
        deadline = time.monotonic() + within
        begin = len(self.call.heard)
        while True:
            loud = sum(np.abs(PCMU.decode(frame)).max() > 0.02 for frame in self.call.heard[begin:])
            if loud * FRAME_SECONDS >= seconds and self.playout.quiet_frames * FRAME_SECONDS > QUIET_SECONDS:
                return
            if time.monotonic() > deadline:
                self.call.problem = f"the agent said {loud * FRAME_SECONDS:.1f} s, not {seconds}"
                raise Hung
            await asyncio.sleep(0.05)

    # --- a carrier's messages --------------------------------------------------------------------------------------
    def new_id(self) -> str:
        return str(uuid.uuid4())

    @abc.abstractmethod
    def first_messages(self) -> list[dict[str, Any]]: ...

    @abc.abstractmethod
    def media(self, timestamp: str, payload: str) -> dict[str, Any]:
        """Of the piece whose number is `chunk`."""

    @abc.abstractmethod
    def key(self, digit: str) -> dict[str, Any]: ...

    @abc.abstractmethod
    def played(self, mark: str) -> dict[str, Any]: ...

    @abc.abstractmethod
    def last_messages(self) -> list[dict[str, Any]]:
        """When the caller hung up."""

    def read(self, document: dict[str, Any]) -> tuple[str, str]:
        """Return what the other side wants: to `play` a payload, to set a `mark`, or to `clear`."""
        match document:
            case {"event": "media", "media": {"payload": payload}}:
                return "play", payload
            case {"event": "mark", "mark": {"name": name}}:
                return "mark", name
            case {"event": "clear"}:
                return "clear", ""
        return "unknown", str(document)

    def cleared(self, marks: list[str]) -> list[dict[str, Any]]:
        """Return what is said when all is forgotten, the marks with it: most say that they were reached."""
        return [self.played(name) for name in marks]
