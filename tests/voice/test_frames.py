"""Frames however they come: cut anywhere, in pieces, masked or not, with control frames between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER
from websockets.protocol import Protocol as WebSocket
from websockets.uri import parse_uri

from gpu_workers.protocol import MAX_MESSAGE_BYTES, CloseCode, Kind
from voice.caller_protocol import CallerProtocol
from voice.frames import MOST_PIECES, PING_SECONDS, Frames
from voice.metering import from_caller, from_worker
from voice.relay import splice
from voice.times import DurationHistogram
from voice.worker_protocol import WorkerProtocol


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Run instead of the gateway: here the handshakes are done."""


SERVER_CONFIG = Config(nothing, ws_max_size=MAX_MESSAGE_BYTES, log_config=None)
SERVER_CONFIG.load()


def caller() -> CallerProtocol:
    return CallerProtocol(SERVER_CONFIG, ServerState(), {})


def worker() -> WorkerProtocol:
    made = WorkerProtocol(parse_uri("ws://none"), {}, ping_seconds=PING_SECONDS)
    made.answered.set_result(None)
    return made


class Wire(asyncio.Transport):
    """What was written, and whether anybody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_read = True
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return None

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close


class Sides:
    """A caller and a worker, spliced."""

    def __init__(self) -> None:
        delays = DurationHistogram()
        self.metadata: list[dict[str, Any]] = []
        self.from_caller = from_caller(delays)
        self.from_worker = from_worker(delays, on_metadata=self.metadata.append, on_malformed=lambda sentence: None)
        self.caller, self.worker = caller(), worker()
        for side in (self.caller, self.worker):
            side.transport = Wire()
            side.opened()
        self.joined = asyncio.create_task(
            splice(self.caller, self.worker, self.from_caller, self.from_worker), name="splice"
        )

    @property
    def to_worker(self) -> list[tuple[Opcode, bytes]]:
        return read(self.worker, SERVER)

    @property
    def to_caller(self) -> list[tuple[Opcode, bytes]]:
        return read(self.caller, CLIENT)

    def forget(self) -> None:
        for side in (self.caller, self.worker):
            side.connection_lost(None)


def read(side: Frames, reader: Any) -> list[tuple[Opcode, bytes]]:
    """Return the frames that were written to a side, as the library on its other end reads them."""
    wire: Any = side.transport
    library = WebSocket(reader, state=OPEN, max_size=None)
    library.receive_data(bytes(wire.written))
    assert library.parser_exc is None
    return [(event.opcode, bytes(event.data)) for event in library.events_received() if isinstance(event, Frame)]


async def run_with(test: Callable[[Sides], None]) -> None:
    sides = Sides()
    await asyncio.sleep(0)
    try:
        test(sides)
    finally:
        sides.forget()
        await sides.joined


def give(side: Frames, data: bytes, cuts: Iterable[int]) -> None:
    begin = 0
    for cut in sorted({min(cut, len(data)) for cut in cuts} - {0} | {len(data)} - {0}):
        side.data_received(data[begin:cut])
        begin = cut


messages = some.lists(
    some.tuples(
        some.sampled_from([b"", *(bytes([kind]) for kind in (0, 1, 1, 1, 2, 3, 5, 6, 7, 255))]),
        some.sampled_from([0, 1, 124, 125, 126, 300, 65_534, 65_535]),
        some.integers(1, 4),
        some.booleans(),
    ),
    max_size=8,
)
cuts = some.lists(some.integers(0, 70_000), max_size=40)


@settings(max_examples=200, deadline=None)
@given(messages, cuts, some.booleans(), some.booleans(), some.booleans())
def test_what_may_pass_passes_whole_and_in_order_however_it_comes(
    messages: Any, cuts: list[int], up: bool, one_by_one: bool, is_recorded: bool
) -> None:
    sent, data, ends = [], b"", []
    for kind, length, pieces, has_ping in messages:
        message = kind + bytes(length) if kind else b""
        sent.append(message)
        step = -(-len(message) // pieces) or 1
        parts = [message[begin : begin + step] for begin in range(0, len(message), step)] or [b""]
        for number, part in enumerate(parts):
            opcode = Opcode.CONT if number else Opcode.BINARY
            data += Frame(opcode, part, fin=number == len(parts) - 1).serialize(mask=up)
            if has_ping:
                data += Frame(Opcode.PING, b"between").serialize(mask=up)
            ends.append(len(data))
    shown: list[bytes] = []

    def test(sides: Sides) -> None:
        side, passage = (sides.caller, sides.from_caller) if up else (sides.worker, sides.from_worker)
        passage.tap = (lambda message, at: shown.append(message)) if is_recorded else None
        give(side, data, ends if one_by_one else cuts)
        allowed = {Kind.AUDIO, Kind.CONTROL, Kind.PING} if up else {Kind.AUDIO, Kind.TEXT, Kind.ERROR}
        passed = [message for message in sent if message and message[0] in allowed]
        assert whole(sides.to_worker if up else sides.to_caller) == passed
        assert (passage.messages, passage.bytes) == (len(passed), sum(map(len, passed)))
        assert passage.discarded == len(sent) - len(passed)
        audio = [message for message in passed if message[0] == Kind.AUDIO]
        assert passage.audio_times.count == len(audio)
        assert shown == (audio if is_recorded else [])

    asyncio.run(run_with(test))


def whole(frames: list[tuple[Opcode, bytes]]) -> list[bytes]:
    """Return messages from frames; control frames must not be among those that were passed on."""
    found: list[bytes] = []
    for opcode, data in frames:
        assert opcode in (Opcode.BINARY, Opcode.CONT)
        if opcode == Opcode.CONT:
            found[-1] += data
        else:
            found.append(data)
    return found


async def test_a_ping_is_answered_where_it_came_from() -> None:
    def test(sides: Sides) -> None:
        sides.caller.frames_received(Frame(Opcode.PING, b"there?").serialize(mask=True))
        sides.worker.frames_received(Frame(Opcode.PING, b"here?").serialize(mask=False))
        assert sides.to_caller == [(Opcode.PONG, b"there?")]
        assert sides.to_worker == [(Opcode.PONG, b"here?")]

    await run_with(test)


async def test_metadata_of_the_worker_is_read_and_passes_if_the_caller_may_see_it() -> None:
    seen, hidden = b'\x04{"type":"transcript"}', b'\x04{"type":"turn"}'

    def test(sides: Sides) -> None:
        data = b"".join(Frame(Opcode.BINARY, each).serialize(mask=False) for each in (b"\x01a", hidden, seen, b"\x01b"))
        sides.worker.frames_received(data)
        assert [document["type"] for document in sides.metadata] == ["turn", "transcript"]
        assert whole(sides.to_caller) == [b"\x01a", seen, b"\x01b"]

    await run_with(test)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x01x", CloseCode.PROTOCOL_ERROR),  # not masked
        (b"\xc2\x80", CloseCode.PROTOCOL_ERROR),  # a reserved bit
        (b"\x83\x80", CloseCode.PROTOCOL_ERROR),  # an opcode that nobody knows
        (b"\x80\x80", CloseCode.PROTOCOL_ERROR),  # goes on with what never began
        (b"\x09\x80", CloseCode.PROTOCOL_ERROR),  # a ping in pieces
        (b"\x89\xfe\x00\x7e", CloseCode.PROTOCOL_ERROR),  # a ping too long
        (b"\x02\x80....\x82\x80....", CloseCode.PROTOCOL_ERROR),  # a new message within one
        (Frame(Opcode.TEXT, b"words").serialize(mask=True), CloseCode.UNSUPPORTED_DATA),
        (b"\x82\xff" + (MAX_MESSAGE_BYTES + 1).to_bytes(8), CloseCode.MESSAGE_TOO_BIG),  # before it has come
        (b"\x82\xff" + (2**64 - 1).to_bytes(8), CloseCode.MESSAGE_TOO_BIG),
        (b"\x02\x80...." + MOST_PIECES * b"\x00\x80....", CloseCode.MESSAGE_TOO_BIG),
        (Frame(Opcode.CLOSE, b"\x00").serialize(mask=True), CloseCode.PROTOCOL_ERROR),
        (Frame(Opcode.CLOSE, b"\x03\xed").serialize(mask=True), CloseCode.PROTOCOL_ERROR),  # 1005 is never sent
    ],
    ids=lambda value: str(int(value)) if isinstance(value, CloseCode) else "",
)
async def test_who_breaks_the_protocol_is_told_how(data: bytes, code: CloseCode) -> None:
    def test(sides: Sides) -> None:
        sides.caller.frames_received(data)
        assert sides.caller.close_code == code
        assert sides.to_caller[-1] == (Opcode.CLOSE, code.to_bytes(2) + code.reason.encode())
        assert not whole(sides.to_worker)

    await run_with(test)


async def test_a_slow_side_is_waited_for() -> None:
    def test(sides: Sides) -> None:
        wire: Any = sides.caller.transport
        sides.worker.pause_writing()
        assert not wire.is_read
        assert sides.from_caller.waiting_since is not None
        sides.worker.resume_writing()
        assert wire.is_read
        assert sides.from_caller.waiting_since is None

    await run_with(test)


async def test_what_comes_after_the_other_side_is_gone_is_kept() -> None:
    sides = Sides()
    await asyncio.sleep(0)
    audio = Frame(Opcode.BINARY, b"\x01x").serialize(mask=True)
    sides.caller.frames_received(audio)
    sides.worker.connection_lost(None)
    sides.caller.frames_received(audio)
    assert await sides.joined is sides.worker
    assert sides.from_caller.messages == 1
    assert await sides.caller.receive() == b"\x01x"
    sides.forget()


async def test_text_that_a_worker_said_with_its_handshake_is_discarded_and_the_call_goes_on() -> None:
    sides = Sides()
    text, audio = (Frame(Opcode.TEXT, b"words"), Frame(Opcode.BINARY, b"\x01x"))
    sides.worker.frames_received(text.serialize(mask=False) + audio.serialize(mask=False))
    await asyncio.sleep(0)
    assert sides.worker.close_code is None
    assert whole(sides.to_caller) == [b"\x01x"]
    sides.forget()
    await sides.joined


async def test_what_waits_for_a_worker_that_is_gone_already_is_kept_for_the_next() -> None:
    sides = Sides()
    sides.caller.frames_received(Frame(Opcode.BINARY, b"\x01x").serialize(mask=True))
    sides.worker.connection_lost(None)
    assert await sides.joined is sides.worker
    assert sides.from_caller.messages == 0
    async with asyncio.timeout(1):
        assert await sides.caller.receive() == b"\x01x"
    sides.forget()
