"""The two ends of a call as objects: the caller's WebSocket on ASGI, and the worker's.

It knows whole binary messages, their size and how a side closed; not tickets, calls, audio or Django.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

from gpu_workers.protocol import MAX_MESSAGE_BYTES, CloseCode, Kind
from voice.backlog import Backlog
from voice.frames import PING_SECONDS, Frames, SideClosed
from voice.worker_protocol import WorkerProtocol, connect

# What a message takes beside its bytes: an empty one is not free to keep.
MESSAGE_OVERHEAD_BYTES = 64
# Who is gone does not answer a close frame.
CLOSE_TIMEOUT_SECONDS = 2.0


class SideLost(Exception):
    """A message could not be sent, because this side of the call has closed."""


class CallerFault(Exception):
    """The caller broke the protocol; the close code says how."""

    def __init__(self, close_code: CloseCode) -> None:
        super().__init__(close_code.reason)
        self.close_code = close_code


class WorkerUnavailable(Exception):
    """The worker cannot be reached, or refused the session."""

    close_code = CloseCode.WORKER_UNAVAILABLE


class WorkerAtCapacity(WorkerUnavailable):
    """The worker has no place left."""

    close_code = CloseCode.WORKER_AT_CAPACITY


class WorkerTimedOut(WorkerUnavailable):
    """The worker did not say in time that it can talk."""

    close_code = CloseCode.WORKER_TIMED_OUT


class WorkerOccupied(WorkerUnavailable):
    """The session is connected already: by a gateway that has not let go of it yet."""


class State(enum.Enum):
    """Of one direction of the caller's socket."""

    CONNECTING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class CallerSocket:
    """The caller: `accept`, `send`, `close`, and `async for` over binary messages until it closes."""

    def __init__(
        self, receive: Any, send: Any, *, frames: Frames | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._receive = receive
        self._send = send
        self.frames = frames
        """The connection itself, where the server gives it."""
        self._max_message_bytes = max_message_bytes
        self._held: Backlog[bytes] = Backlog()
        self.caller_state = State.CONNECTING
        self.our_state = State.CONNECTING
        self.close_code: int | None = None
        """How the caller closed, or the server on it; None while neither has."""
        self.has_closed = asyncio.Event()
        """Set when `close_code` is known."""
        self.left = asyncio.Event()
        """Set when the call needs this connection no more."""
        self._offered: asyncio.Task[None] | None = None

    async def accept(self) -> None:
        """Answer the handshake.

        Raises:
            SideLost: the caller went away first.
        """
        self._require(self.our_state, State.CONNECTING)
        event = await self._receive()
        if event["type"] != "websocket.connect":
            self._caller_closed(event)
            raise SideLost
        self.caller_state = State.OPEN
        await self._deliver({"type": "websocket.accept"})
        self.our_state = State.OPEN

    async def send(self, message: bytes) -> None:
        """Send one message; returns when the server has room for the next.

        Raises:
            SideLost: the call's end has closed.
        """
        if self.our_state is not State.OPEN:
            raise SideLost
        await self._deliver({"type": "websocket.send", "bytes": message})

    def offer(self, message: bytes) -> bool:
        """Send a message where there is room for it at once; returns whether there was."""
        if self.our_state is not State.OPEN:
            return False
        if self.frames is not None:
            return self.frames.offer(message)
        if self._offered is not None and not self._offered.done():
            return False
        self._offered = asyncio.create_task(self._send_quietly(message), name="offer")
        return True

    async def _send_quietly(self, message: bytes) -> None:
        with contextlib.suppress(SideLost):  # who reads learns how it closed
            await self.send(message)

    async def close(self, code: CloseCode) -> None:
        """Say goodbye, once; nothing happens where the caller has gone already."""
        if self.our_state is State.OPEN and self.caller_state is not State.CLOSED:
            self.our_state = State.CLOSED
            # A caller who reads nothing does not read a goodbye either.
            with contextlib.suppress(SideLost, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await self._deliver({"type": "websocket.close", "code": int(code), "reason": code.reason})
        self.our_state = State.CLOSED

    async def hold(self, limit_bytes: int) -> bool:
        """Read on while there is nobody to pass messages to, and keep them; `async for` gives them first.

        Returns True when the caller closed, False when the limit is reached: from then on the caller has to wait.
        """
        held_bytes = 0
        while held_bytes < limit_bytes:
            message = await self._next()
            if message is None:
                return True
            held_bytes += len(message) + MESSAGE_OVERHEAD_BYTES
            self._held.append(message)
        return False

    async def held(self) -> AsyncIterator[bytes]:
        """Give the messages that were kept."""
        while self._held:
            yield self._held.popleft()

    def note_close(self, code: int) -> None:
        """Take note of how the connection closed, where that was seen elsewhere."""
        self._caller_closed({"code": code})

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._held:
            return self._held.popleft()
        message = await self._next()
        if message is None:
            raise StopAsyncIteration
        return message

    async def _next(self) -> bytes | None:
        self._require(self.our_state, State.OPEN)
        if self.caller_state is State.CLOSED:
            return None
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._caller_closed(event)
            return None
        message = event.get("bytes")
        if message is None:
            raise CallerFault(CloseCode.UNSUPPORTED_DATA)
        if len(message) > self._max_message_bytes:
            raise CallerFault(CloseCode.MESSAGE_TOO_BIG)
        return bytes(message)

    async def _deliver(self, event: dict[str, Any]) -> None:
        try:
            await self._send(event)
        except (OSError, RuntimeError) as problem:
            # ASGI 2.4 says OSError where the other side has gone; uvicorn raises RuntimeError where it closed itself,
            # on a message that is too long for instance. Who reads learns how.
            raise SideLost from problem

    def _caller_closed(self, event: Mapping[str, Any]) -> None:
        self.caller_state = State.CLOSED
        self.close_code = event.get("code") or 1005
        self.has_closed.set()

    @staticmethod
    def _require(state: State, wanted: State) -> None:
        if state is not wanted:
            raise RuntimeError(f"The caller's socket is {state.name}, not {wanted.name}.")


class WorkerSocket:
    """A worker, from connecting to closing: `async with` waits until it can talk, `async for` gives its messages.

    Raises on entering:
        WorkerAtCapacity, WorkerTimedOut, WorkerUnavailable
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        first_message: bytes,
        timeout_seconds: float,
        silence_seconds: float = 2 * PING_SECONDS,
    ) -> None:
        """`silence_seconds`: a worker that says nothing for so long, and answers no ping, is lost."""
        self._url = url
        self._headers = headers
        self._first_message = first_message
        self._timeout_seconds = timeout_seconds
        self._ping_seconds = silence_seconds / 2
        self._frames: WorkerProtocol | None = None
        self.handshake = b""
        self._before_handshake: Backlog[bytes] = Backlog()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._connect()
                await self._wait_for_handshake()
        except TimeoutError as problem:
            await self._abandon()
            raise WorkerTimedOut("The worker did not answer in time.") from problem
        except BaseException:
            await self._abandon()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def frames(self) -> WorkerProtocol:
        assert self._frames is not None, "the worker's socket was not entered"
        return self._frames

    @property
    def close_code(self) -> int | None:
        """How the worker closed: 1006 where it just went away; None while it has not."""
        return self.frames.close_code

    def abort(self) -> None:
        """Let go of the connection at once, with nobody to say goodbye to."""
        self.frames.transport.abort()

    async def close(self) -> None:
        """Say goodbye and wait for the answer, for a short time."""
        self.frames.say_goodbye(1000)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self.frames.wait_closed()
        self.frames.transport.close()

    async def send(self, message: bytes) -> None:
        """Send one message; returns when there is room for the next.

        Raises:
            SideLost: the worker has closed.
        """
        try:
            await self.frames.send(message)
        except SideClosed as problem:
            raise SideLost from problem

    async def held(self) -> AsyncIterator[bytes]:
        """Give the messages that came before the handshake."""
        while self._before_handshake:
            yield self._before_handshake.popleft()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._before_handshake:
            return self._before_handshake.popleft()
        while isinstance(message := await self.frames.receive(), str):
            pass  # text frames are no part of the protocol: discarded like unknown kinds
        if message is None:
            raise StopAsyncIteration
        return message

    async def _connect(self) -> None:
        try:
            self._frames = await connect(self._url, self._headers, ping_seconds=self._ping_seconds)
        except InvalidStatus as problem:
            status = problem.response.status_code
            # 429 and 503 both mean "no room"; everything else is a refusal.
            if status in (429, 503):
                raise WorkerAtCapacity("The worker has no place left.") from problem
            if status == 409:
                raise WorkerOccupied("The session is connected already.") from problem
            raise WorkerUnavailable(f"The worker refused the session with status {status}.") from problem
        except (OSError, InvalidHandshake, InvalidURI) as problem:
            raise WorkerUnavailable(f"The worker cannot be reached: {problem}") from problem

    async def _wait_for_handshake(self) -> None:
        with contextlib.suppress(SideClosed):
            await self.frames.send(self._first_message)
        self._first_message = b""  # it may be long, and the call too
        while (message := await self.frames.receive()) is not None:
            if isinstance(message, str) or not message:
                continue
            if message[0] == Kind.HANDSHAKE:
                self.handshake = message
                return
            if message[0] == Kind.ERROR:
                raise WorkerUnavailable(f"The worker reported: {message[1:].decode(errors='replace')}")
            if message[0] == Kind.METADATA and len(self._before_handshake) < 16:
                self._before_handshake.append(message)
        code = self.close_code
        if code in (CloseCode.WORKER_AT_CAPACITY, CloseCode.TRY_AGAIN_LATER):
            raise WorkerAtCapacity("The worker has no place left.")
        raise WorkerUnavailable(f"The worker closed before it could talk ({code}).")

    async def _abandon(self) -> None:
        if self._frames is not None:
            await self.close()
