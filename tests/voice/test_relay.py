"""Two real sockets with a relay between them: what passes, what does not, and who may wait for whom."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gpu_workers import protocol
from gpu_workers.protocol import MAX_MESSAGE_BYTES, CloseCode
from tests.voice.processes import scripted_worker, until
from voice.caller_protocol import EXTENSION, CallerProtocol
from voice.metering import from_caller, from_worker
from voice.relay import pump, run_until_first, splice
from voice.sockets import (
    CallerFault,
    CallerSocket,
    SideLost,
    WorkerAtCapacity,
    WorkerSocket,
    WorkerTimedOut,
    WorkerUnavailable,
)
from voice.times import DurationHistogram

PLAIN = "websockets-sansio"
server: Any = CallerProtocol


@pytest.fixture(autouse=True, params=[CallerProtocol, PLAIN], ids=["splice", "pumps"])
def _server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test on our server, whose connections are spliced, and on a foreign one, with pumps."""
    monkeypatch.setitem(globals(), "server", request.param)


class Relay:
    """The smallest gateway: one worker, no database. Keeps how each call ended."""

    def __init__(self, worker_port: int) -> None:
        self.url = f"ws://127.0.0.1:{worker_port}/api/chat"
        self.ends: list[object] = []
        self.metadata: list[dict[str, Any]] = []
        self.malformed: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        extension = scope["extensions"].get(EXTENSION)
        assert (extension is None) is (server == PLAIN)
        caller = CallerSocket(receive, send, frames=extension and extension["connection"])
        await caller.accept()
        try:
            await self._hold(caller)
        except (CallerFault, WorkerUnavailable) as problem:
            self.ends.append(problem)
            await caller.close(problem.close_code)

    async def _hold(self, caller: CallerSocket) -> None:
        delays = DurationHistogram()
        self.from_caller = from_caller(delays)
        self.from_worker = from_worker(delays, on_metadata=self.metadata.append, on_malformed=self.malformed.append)
        start = protocol.Start(call_id="call-1").to_message()
        async with WorkerSocket(self.url, {}, first_message=start, timeout_seconds=1.0) as worker:
            await caller.send(worker.handshake)
            end = await self._join(caller, worker)
            self.ends.append((end, worker.close_code if end == "worker" else caller.close_code))
        await caller.close(CloseCode.NORMAL)

    async def _join(self, caller: CallerSocket, worker: WorkerSocket) -> str:
        if caller.frames is None:
            return await run_until_first(
                {
                    "caller": self._carry(caller, worker, self.from_caller, "caller"),
                    "worker": self._carry(worker, caller, self.from_worker, "worker"),
                }
            )
        await pump(worker.held(), caller, self.from_worker)
        first = await splice(caller.frames, worker.frames, self.from_caller, self.from_worker)
        if first is worker.frames:
            return "worker"
        caller.note_close(caller.frames.close_code or 0)
        return "caller"

    async def _carry(self, source: Any, sink: Any, passage: Any, name: str) -> str:
        try:
            await pump(source, sink, passage)
        except SideLost:
            return "worker" if name == "caller" else "caller"
        return name


@contextlib.asynccontextmanager
async def serving(relay: Relay) -> AsyncIterator[str]:
    config = uvicorn.Config(
        relay,
        port=0,
        ws=server,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=5,
    )
    process = uvicorn.Server(config)
    task = asyncio.create_task(process.serve())
    await until(lambda: process.started, what="the server's start")
    try:
        yield f"ws://127.0.0.1:{process.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        process.should_exit = True
        await task


@contextlib.asynccontextmanager
async def a_call(folder: Path, mode: str) -> AsyncIterator[tuple[ClientConnection, Relay]]:
    with scripted_worker(folder, mode) as (port, _, _):
        relay = Relay(port)
        async with serving(relay) as url, connect(url, compression=None, max_size=None, proxy=None) as caller:
            yield caller, relay


async def receive(caller: ClientConnection) -> bytes:
    async with asyncio.timeout(5):
        message = await caller.recv()
    assert isinstance(message, bytes)
    return message


async def closed_with(caller: ClientConnection) -> int:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await caller.recv()
    assert caller.close_code is not None
    return caller.close_code


async def ended(relay: Relay) -> object:
    await until(lambda: relay.ends, what="the call's end")
    return relay.ends[0]


async def test_messages_come_back_unchanged_and_counted(tmp_path: Path) -> None:
    async with a_call(tmp_path, "echo") as (caller, relay):
        assert await receive(caller) == protocol.handshake()
        for size in (0, 1, 125, 126, 65_535, 65_536, MAX_MESSAGE_BYTES - 1):
            message = protocol.audio(bytes(size))
            await caller.send(message)
            assert await receive(caller) == message
        assert relay.from_caller.messages == relay.from_worker.messages == 7
        assert relay.from_caller.bytes == relay.from_worker.bytes
        assert relay.from_caller.audio_times.count == relay.from_worker.audio_times.count == 7


async def test_only_audio_control_and_pings_pass_from_the_caller(tmp_path: Path) -> None:
    with scripted_worker(tmp_path, "echo") as (port, log, _):
        relay = Relay(port)
        async with serving(relay) as url, connect(url, compression=None, proxy=None) as caller:
            await receive(caller)
            start = protocol.Start(call_id="forged").to_message()
            said = (start, protocol.text("x"), protocol.error("x"), protocol.handshake(), b"", b"\x07", b"\xff")
            for message in said:
                await caller.send(message)
            await caller.send(protocol.control(protocol.Control.PAUSE))
            await caller.send(protocol.PING)
            await caller.send(protocol.audio(b"last"))
            assert await receive(caller) == protocol.audio(b"last")
            assert relay.from_caller.discarded == 7
        assert [line for line in log.read_text().splitlines() if '"message"' in line] == [
            '{"event": "message", "kind": 3, "bytes": 2, "text": "\\u0002"}',
            '{"event": "message", "kind": 6, "bytes": 1, "text": ""}',
        ]


async def test_who_records_is_shown_all_audio_as_it_was_sent_and_nothing_else(tmp_path: Path) -> None:
    async with a_call(tmp_path, "echo") as (caller, relay):
        await receive(caller)
        said: list[bytes] = []
        spoken: list[bytes] = []
        relay.from_caller.tap = lambda message, at: said.append(message)
        relay.from_worker.tap = lambda message, at: spoken.append(message)
        messages = [protocol.audio(bytes([number]) * size) for number, size in enumerate((0, 1, 130, 70_000, 3))]
        for message in messages:
            await caller.send(message)
            await caller.send(protocol.PING)
            assert await receive(caller) == message
        await caller.send([messages[2][:7], messages[2][7:]])  # in two pieces
        assert await receive(caller) == messages[2]
        assert said == spoken == [*messages, messages[2]]
        relay.from_caller.tap = relay.from_worker.tap = None
        await caller.send(messages[1])
        await receive(caller)
        assert len(said) == len(spoken) == 6


async def test_the_caller_hangs_up(tmp_path: Path) -> None:
    async with a_call(tmp_path, "echo") as (caller, relay):
        await receive(caller)
        await caller.close(1000)
        assert await ended(relay) == ("caller", 1000)


async def test_the_callers_network_goes(tmp_path: Path) -> None:
    async with a_call(tmp_path, "echo") as (caller, relay):
        await receive(caller)
        caller.transport.abort()
        assert await ended(relay) in {("caller", 1005), ("caller", 1006)}  # uvicorn's own server says 1005


async def test_the_worker_finishes_after_its_last_word_has_passed(tmp_path: Path) -> None:
    async with a_call(tmp_path, "finish") as (caller, relay):
        await receive(caller)
        for _ in range(20):
            await caller.send(protocol.audio(b"x"))
        assert await closed_with(caller) == 1000
        assert await ended(relay) == ("worker", 1000)
        assert relay.from_worker.audio_times.count == 3


@pytest.mark.parametrize("mode", ["crash", "lose"])
async def test_the_worker_is_lost(tmp_path: Path, mode: str) -> None:
    async with a_call(tmp_path, mode) as (caller, relay):
        await receive(caller)
        for _ in range(10):
            await caller.send(protocol.audio(b"x"))
        assert await ended(relay) == ("worker", 1006)


@pytest.mark.parametrize(
    ("mode", "error", "code"),
    [
        ("silent", WorkerTimedOut, CloseCode.WORKER_TIMED_OUT),
        ("refuse", WorkerUnavailable, CloseCode.WORKER_UNAVAILABLE),
        ("close_early", WorkerAtCapacity, CloseCode.WORKER_AT_CAPACITY),
        ("at_capacity", WorkerAtCapacity, CloseCode.WORKER_AT_CAPACITY),
    ],
)
async def test_a_worker_that_cannot_talk_has_a_close_code(
    tmp_path: Path, mode: str, error: type[WorkerUnavailable], code: CloseCode
) -> None:
    async with a_call(tmp_path, mode) as (caller, relay):
        assert await closed_with(caller) == code
        assert caller.close_reason == code.reason
        assert type(relay.ends[0]) is error


async def test_no_worker_has_a_close_code() -> None:
    async with serving(Relay(9)) as url, connect(url, compression=None, proxy=None) as caller:
        assert await closed_with(caller) == CloseCode.WORKER_UNAVAILABLE


async def test_text_frames_from_the_caller_end_the_call(tmp_path: Path) -> None:
    async with a_call(tmp_path, "echo") as (caller, relay):
        await receive(caller)
        await caller.send("hello")
        assert await closed_with(caller) == CloseCode.UNSUPPORTED_DATA


async def test_a_message_over_the_limit_ends_the_call(tmp_path: Path) -> None:
    async with a_call(tmp_path, "echo") as (caller, relay):
        await receive(caller)
        await caller.send(bytes(MAX_MESSAGE_BYTES + 1))
        assert await closed_with(caller) == CloseCode.MESSAGE_TOO_BIG


async def test_malformed_metadata_is_let_go_and_the_call_goes_on(tmp_path: Path) -> None:
    async with a_call(tmp_path, "babble") as (caller, relay):
        assert await receive(caller) == protocol.handshake()
        kinds = [(await receive(caller))[0] for _ in range(3)]
        assert kinds[0] == protocol.Kind.METADATA  # its strange transcript, which the gateway does not store
        assert len(relay.malformed) == 3


async def test_only_what_the_caller_may_see_of_metadata_passes(tmp_path: Path) -> None:
    async with a_call(tmp_path, "answer") as (caller, relay):
        messages = [await receive(caller) for _ in range(3)]
        assert [message[0] for message in messages] == [0, 4, 1]
        assert protocol.read_metadata(messages[1])["type"] == "transcript"
        await until(lambda: len(relay.metadata) >= 3, what="the worker's metadata")
        assert [document["type"] for document in relay.metadata] == ["boot", "transcript", "turn"]


async def test_a_slow_worker_makes_the_caller_wait_and_memory_stays_bounded(tmp_path: Path) -> None:
    async with a_call(tmp_path, "read_nothing") as (caller, relay):
        await receive(caller)
        before = _resident_bytes()
        sent = await _send_until_stuck(caller)
        assert sent < 40_000_000
        assert _resident_bytes() - before < 60_000_000
        assert relay.from_caller.waiting_since is not None
        caller.transport.abort()


async def test_a_slow_caller_makes_the_worker_wait_and_memory_stays_bounded(tmp_path: Path) -> None:
    async with a_call(tmp_path, "flood") as (caller, relay):
        before = _resident_bytes()
        # The client library stops reading when its few frames are full; the worker goes on for as long as it can.
        passed = -1
        while relay.from_worker.messages != passed:
            passed = relay.from_worker.messages
            await asyncio.sleep(0.3)
        assert relay.from_worker.bytes < 40_000_000
        assert _resident_bytes() - before < 60_000_000
        caller.transport.abort()


async def _send_until_stuck(caller: ClientConnection) -> int:
    """Send until a message takes more than half a second, and return how many bytes were taken."""
    sent, message = 0, protocol.audio(bytes(64_000))
    began = time.monotonic()
    while time.monotonic() - began < 10:
        try:
            async with asyncio.timeout(0.5):
                await caller.send(message)
        except TimeoutError:
            return sent
        sent += len(message)
    raise AssertionError("the worker never made the caller wait")


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
