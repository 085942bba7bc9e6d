"""WebSocket frames on a transport whose handshake is done, bounded in all that the other side decides.

Whole messages are either taken one by one (`receive`), or, while spliced to another connection, passed on as the bytes
that came: a mask passes through, and no more of a message is read than its head and its first byte.
It knows nothing of calls, ASGI or Django. Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, cast

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode, apply_mask

from gpu_workers.protocol import MAX_MESSAGE_BYTES, CloseCode, Kind
from voice.backlog import Backlog

MOST_PINGS = 100
"""Without a message between them: answering a flood would starve all calls."""
MOST_PIECES = 1024
"""Of one message; a limit of bytes does not count empty pieces."""
WRITE_BUFFER_BYTES = 32_768
"""What may wait for a slow side before its other side is read no more."""
MOST_SHORT_BYTES = 0xFFFF
"""Of a message whose length takes two bytes at most."""
PING_SECONDS = 20.0
"""How often a side that says nothing is asked whether it is there, and how long it has to answer."""
CLOSE_SECONDS = 10.0
"""Who does not answer a goodbye is let go."""
TIMED_EACH = 8
"""Of so many messages one is timed until it is written: percentiles need no more."""
ABNORMAL = 1006
NO_STATUS = 1005

AUDIO = int(Kind.AUDIO)
_FIN, _RESERVED, _OPCODE, _MASKED = 0x80, 0x70, 0x0F, 0x80
WHOLE_BINARY = int(_FIN | Opcode.BINARY)
_CONTROL = 0x08


class Passage(Protocol):
    """What watches one direction: says what may pass, counts, keeps times. Never waits. Times: monotonic seconds."""

    messages: int
    waiting_since: float | None
    tap: Callable[[bytes, float], None] | None
    """Is shown each message of audio, unmasked, and when it came; None while nobody wants it."""

    def audio(self, size_bytes: int, at: float) -> None:
        """Take note of a message of audio, which always passes."""

    def other(self, kind: int, message: Callable[[], bytes], size_bytes: int, at: float) -> bool:
        """Return whether another message may pass. `kind`: its first byte, -1 where it is empty."""

    def departed(self, arrived_at: float, at: float) -> None:
        """Take note of how long it took to give messages to the other side; not told of all."""


class SideClosed(ConnectionError):
    """This connection has closed."""


class Frames(asyncio.Protocol):
    """One side's connection. Subclasses do the handshake and then call `opened`."""

    masks: bool
    """Whether we mask what we send, as clients do; the other side does the contrary."""

    # Slots: the attributes are more than a shared dictionary holds, and are read once per message.
    __slots__ = (
        "_has_said_goodbye",
        "_heard_at",
        "_is_open",
        "_is_reading",
        "_mask_bytes",
        "_max_message_bytes",
        "_messages",
        "_needed",
        "_passage",
        "_pieces",
        "_pieces_bytes",
        "_ping_seconds",
        "_pings",
        "_reader",
        "_rest",
        "_sink",
        "_source",
        "_timer",
        "_writable",
        "_write_on",
        "close_code",
        "closed_at",
        "on_close",
        "transport",
    )

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES, ping_seconds: float = PING_SECONDS) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.close_code: int | None = None
        """How the connection closed: the other side's code, or ours where it broke the protocol; None while open."""
        self.closed_at = 0.0
        """When it closed (monotonic seconds); where it fell silent, when it was last heard."""
        self.on_close: Callable[[], None] | None = None
        self._ping_seconds = ping_seconds
        self._max_message_bytes = max_message_bytes
        self._mask_bytes = 0 if self.masks else 4  # of what we read
        self._is_open = False
        self._has_said_goodbye = False
        self._rest = bytearray()
        self._needed = 0
        self._pieces: list[tuple[bytes, int]] = []
        self._pieces_bytes = 0
        self._pings = 0
        self._messages: Backlog[bytes | str] = Backlog()
        self._reader: asyncio.Future[None] | None = None
        self._is_reading = True
        self._writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._sink: Frames | None = None
        self._source: Frames | None = None
        self._passage: Passage | None = None
        self._write_on: Callable[[bytes], None] | None = None
        """Writes to the sink, while what comes next is the beginning of a message that may be passed on at once."""

    # --- for who holds the connection ------------------------------------------------------------------------------
    @property
    def is_open(self) -> bool:
        return self._is_open and not self._has_said_goodbye

    async def receive(self) -> bytes | str | None:
        """Return the next message, or None where there will be none."""
        while not self._messages:
            if self.close_code is not None or self._has_said_goodbye:
                return None
            self._read_on()
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._messages.popleft()

    async def send(self, message: bytes) -> None:
        """Send a binary message when there is room for it.

        Raises:
            SideClosed
        """
        while self._writable is not None:
            await asyncio.shield(self._writable)
        if not self.is_open:
            raise SideClosed
        self._write(Opcode.BINARY, message)

    def offer(self, message: bytes) -> bool:
        """Send a binary message where there is room for it at once; returns whether there was."""
        if self._writable is not None or not self.is_open:
            return False
        self._write(Opcode.BINARY, message)
        return True

    def say_goodbye(self, code: int, reason: str = "") -> None:
        """Begin to close, once, and read no more messages; nothing happens where it has closed already."""
        if self.is_open:
            self._messages.clear()
            self._say_goodbye(code, reason)

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, or what waits to be written is all that keeps it."""
        while self.close_code is None:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    def pass_on_to(self, sink: Frames, passage: Passage) -> None:
        """Give every further message to another connection, first those that wait here; keep them where it is gone."""
        if not sink.is_open:
            return
        now = monotonic()
        while self._messages:
            message = self._messages.popleft()
            if isinstance(message, str):
                if not self.masks:
                    return self.fail(CloseCode.UNSUPPORTED_DATA)
            elif lets_pass(passage, message, now):  # text of a worker is discarded like unknown kinds
                sink._write(Opcode.BINARY, message)
        self._sink, self._passage, sink._source = sink, passage, self
        self._allow_passing()
        if sink._writable is None:
            self._read_on()
        else:
            self._wait_for_sink()

    def pass_no_more(self) -> None:
        """Keep further messages for `receive`."""
        if self._sink is not None and self._passage is not None:
            self._sink._source = None
            self._passage.waiting_since = None
            self._sink = self._passage = self._write_on = None

    # --- for subclasses --------------------------------------------------------------------------------------------
    def opened(self) -> None:
        """Begin to speak in frames."""
        self._is_open = True
        self._heard_at = monotonic()
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._set_timer(self._ping_seconds, self._keep_alive)

    def frames_received(self, data: bytes) -> None:
        """Take what came. Subclasses look first whether it is one message of audio and may pass as it is."""
        at = self._heard_at = monotonic()
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest = bytearray()
        self._write_on = None
        self._walk(data, at)
        self._allow_passing()

    def fail(self, code: CloseCode) -> None:
        """Close on a side that broke the protocol, and remember it as how the connection closed."""
        self.say_goodbye(code, code.reason)
        self._closed(code)
        self.transport.close()

    # --- asyncio.Protocol ------------------------------------------------------------------------------------------
    def connection_lost(self, problem: Exception | None) -> None:
        self._closed(ABNORMAL)
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()

    def eof_received(self) -> None:
        return None  # the transport closes itself

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()
        if self._source is not None:
            self._source._wait_for_sink()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None:
            writable.set_result(None)
        if self._source is not None and self._source._passage is not None:
            self._source._passage.waiting_since = None
            self._source._read_on()

    # --- reading ---------------------------------------------------------------------------------------------------
    def _walk(self, data: bytes, at: float) -> None:
        """Take the frames of what came; of a frame that is not whole, keep what there is.

        Neighbouring messages that may pass go to the sink in one write.
        """
        sink, passage, mask_bytes = self._sink, self._passage, self._mask_bytes
        tap = None if passage is None else passage.tap
        size, begin, passed = len(data), 0, 0
        while True:
            if size - begin < 2:
                needed = 2
                break
            first, second = data[begin], data[begin + 1]
            length, head = second & 0x7F, begin + 2 + mask_bytes
            if length >= 126:
                extended = 2 if length == 126 else 8
                if size - begin < 2 + extended:
                    needed = 2 + extended
                    break
                length = int.from_bytes(data[begin + 2 : begin + 2 + extended])
                head += extended
            is_plain = first == WHOLE_BINARY and (second > 0x7F) is (mask_bytes > 0) and not self._pieces
            if (not is_plain or length > self._max_message_bytes) and (
                problem := self._problem_of(first, second, length)
            ):
                return self.fail(problem)
            end = head + length
            if end > size:
                needed = end - begin
                break
            if is_plain and sink is not None and passage is not None:
                self._pings = 0
                kind = -1 if not length else data[head] ^ data[head - 4] if mask_bytes else data[head]
                if kind == AUDIO:
                    passage.audio(length, at)
                    if tap is not None:
                        tap(_payload(data[begin:end], head - begin), at)
                elif not passage.other(kind, functools.partial(_payload, data[begin:end], head - begin), length, at):
                    if passed < begin:
                        sink._write_raw(data[passed:begin])
                    passed = end
            else:
                if sink is not None and passed < begin:
                    sink._write_raw(data[passed:begin])
                self._take(data[begin:end], head - begin, at)
                passed = end
                if self.close_code is not None:
                    return
            begin = end
            if begin == size:
                break
        if passed < begin and sink is not None and passage is not None:
            sink._write_raw(data if begin - passed == size else data[passed:begin])
            if not passage.messages % TIMED_EACH:
                passage.departed(at, monotonic())
        if begin < size:
            self._rest, self._needed = bytearray(data[begin:]), needed

    def _allow_passing(self) -> None:
        """Let whole messages be passed on as they come, where nothing stands half read."""
        sink = self._sink
        is_between = not self._rest and not self._pieces and self._max_message_bytes >= MOST_SHORT_BYTES
        self._write_on = sink.transport.write if sink is not None and sink.is_open and is_between else None

    def _problem_of(self, first: int, second: int, length: int) -> CloseCode | None:
        """Return what is wrong with a frame by its head: known before the frame is whole."""
        opcode = first & _OPCODE
        if first & _RESERVED or (second & _MASKED != 0) is self.masks:
            return CloseCode.PROTOCOL_ERROR
        if opcode & _CONTROL:
            is_known = opcode in (Opcode.CLOSE, Opcode.PING, Opcode.PONG)
            return None if is_known and first & _FIN and length < 126 else CloseCode.PROTOCOL_ERROR
        if opcode > Opcode.BINARY or (opcode == Opcode.CONT) is not bool(self._pieces):
            return CloseCode.PROTOCOL_ERROR
        if len(self._pieces) >= MOST_PIECES or self._pieces_bytes + length > self._max_message_bytes:
            return CloseCode.MESSAGE_TOO_BIG
        return None

    def _take(self, frame: bytes, head: int, at: float) -> None:
        """Take a frame that is not passed on as it is: of control, a piece, or a message while there is no sink."""
        opcode = frame[0] & _OPCODE
        if opcode & _CONTROL:
            self._take_control(opcode, _payload(frame, head))
        elif not self._has_said_goodbye:
            self._pieces.append((frame, head))
            self._pieces_bytes += len(frame) - head
            if frame[0] & _FIN:
                pieces, self._pieces, self._pieces_bytes = self._pieces, [], 0
                self._pings = 0
                self._take_message(pieces, at)

    def _take_message(self, pieces: list[tuple[bytes, int]], at: float) -> None:
        message = b"".join(_payload(frame, head) for frame, head in pieces)
        is_text = pieces[0][0][0] & _OPCODE == Opcode.TEXT
        if self._sink is None or self._passage is None:
            self._messages.append(message.decode(errors="replace") if is_text else message)
            self._wake_reader()
            self._read_no_more()
        elif is_text and not self.masks:
            self.fail(CloseCode.UNSUPPORTED_DATA)
        elif not is_text and lets_pass(self._passage, message, at):  # text of a worker is discarded like unknown kinds
            self._sink._write_raw(b"".join(frame for frame, _ in pieces))

    def _take_control(self, opcode: int, payload: bytes) -> None:
        match opcode:
            case Opcode.PING:
                self._pings += 1
                if self._pings > MOST_PINGS:
                    self.fail(CloseCode.PROTOCOL_ERROR)
                elif self._writable is None and self.is_open:
                    self._write(Opcode.PONG, payload)
            case Opcode.CLOSE:
                try:
                    close = Close.parse(payload)
                except (ProtocolError, UnicodeDecodeError):
                    return self.fail(CloseCode.PROTOCOL_ERROR)
                self._say_goodbye(1000 if close.code == NO_STATUS else close.code)
                self._closed(int(close.code))
                self.transport.close()

    def _read_on(self) -> None:
        if not self._is_reading and self._is_open:
            self._is_reading = True
            self._heard_at = monotonic()
            self.transport.resume_reading()

    def _read_no_more(self) -> None:
        if self._is_reading and not self.transport.is_closing():
            self._is_reading = False
            self.transport.pause_reading()

    def _wait_for_sink(self) -> None:
        if self._passage is not None and self._passage.waiting_since is None:
            self._passage.waiting_since = monotonic()
        self._read_no_more()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- writing ---------------------------------------------------------------------------------------------------
    def _write(self, opcode: Opcode, payload: bytes) -> None:
        if self.is_open:
            self.transport.write(Frame(opcode, payload).serialize(mask=self.masks))

    def _write_raw(self, frames: bytes) -> None:
        """Write whole frames of the other side's making."""
        if self._is_open and not self._has_said_goodbye:
            self.transport.write(frames)

    def _take_no_more(self) -> None:
        """Let who passes messages on to this connection keep them."""
        if self._source is not None:
            self._source.pass_no_more()

    # --- the end ---------------------------------------------------------------------------------------------------
    def _say_goodbye(self, code: int, reason: str = "") -> None:
        if not self.is_open:
            return
        self._write(Opcode.CLOSE, Close(code, reason).serialize())
        self._has_said_goodbye = True
        self._take_no_more()
        self._wake_reader()
        self._read_on()  # until the other side's goodbye
        self._set_timer(CLOSE_SECONDS, self._let_go)

    def _closed(self, code: int, at: float | None = None) -> None:
        if self.close_code is None:
            self.close_code = code
            self.closed_at = monotonic() if at is None else at
            self._take_no_more()
            self._wake_reader()
            if self.on_close is not None:
                self.on_close()

    def _keep_alive(self) -> None:
        """Ask a side that says nothing whether it is there, and let it go where it does not answer."""
        silent_seconds = monotonic() - self._heard_at
        if not self._is_reading:  # it may say what it will: whose turn it is to wait is known elsewhere
            silent_seconds = 0.0
        if silent_seconds > 2 * self._ping_seconds:
            self._closed(ABNORMAL, self._heard_at)
            return self._let_go()
        if silent_seconds >= self._ping_seconds / 2 and self._writable is None:
            self._write(Opcode.PING, b"")
        self._set_timer(self._ping_seconds, self._keep_alive)

    def _set_timer(self, seconds: float, action: Callable[[], Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def _let_go(self) -> None:
        self.transport.abort()


def pass_audio(frame: bytes, head: int, passage: Passage, write: Callable[[bytes], None]) -> float:
    """Pass on one whole message of audio, and return when it came (monotonic seconds).

    Args:
        frame: all of its bytes, masked or not.
        head: where its payload begins.
    """
    at = monotonic()
    passage.audio(len(frame) - head, at)
    if passage.tap is not None:
        passage.tap(_payload(frame, head), at)
    write(frame)
    if not passage.messages % TIMED_EACH:
        passage.departed(at, monotonic())
    return at


def _payload(frame: bytes, head: int) -> bytes:
    return apply_mask(frame[head:], frame[head - 4 : head]) if frame[1] & _MASKED else frame[head:]


def lets_pass(passage: Passage, message: bytes, at: float) -> bool:
    """Show a whole message to what watches its direction."""
    kind = message[0] if message else -1
    if kind != AUDIO:
        return passage.other(kind, lambda: message, len(message), at)
    passage.audio(len(message), at)
    if passage.tap is not None:
        passage.tap(message, at)
    return True
