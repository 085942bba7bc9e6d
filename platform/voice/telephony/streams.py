"""A carrier's media stream as a leg: JSON over a WebSocket that the carrier opens, mu-law inside.

A Dialect says what the messages look like. They are numbered; what is not of its form, or for another stream, is let
go. It knows neither webhooks nor the database.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from voice.telephony.dialects import Dialect
from voice.telephony.g711 import FRAME_SECONDS, PCMA, PCMU, RATE_HZ, Law, Samples
from voice.telephony.legs import Event, Key, Leg, Sound
from voice.telephony.opus import OpusPacket
from voice.telephony.pacing import Trim

log = structlog.get_logger(__name__)

START_SECONDS = 10.0
"""For the stream's first two messages."""
SILENT_SECONDS = 15.0
"""Carriers send a piece every 20 ms: a stream of which nothing comes for so long is dead."""
MARK_EACH_FRAMES = 25
"""A mark comes back when it was heard: so it is known how much waits at the carrier."""
LONGEST_PIECE_BYTES = 8_000
MOST_MARKS = 200
MOST_MALFORMED = 100
"""Messages that are not of their form, before the stream is given up."""
LAWS = {"audio/x-mulaw": PCMU, "PCMU": PCMU, "PCMA": PCMA}
"""What carriers call the sound that they may bring. What is brought to them is mu-law always, as is asked for."""
ALL_CLEARED = "all cleared"
"""Stands among the marks for what the carrier was told to forget, where it says that it did."""
NOT_OF_ITS_FORM = (LookupError, ValueError, TypeError, AttributeError, OverflowError)
"""What reading a message raises that holds something else than it should. JSON may hold an infinity."""


class NotAStream(Exception):
    """The other side is not a carrier with a stream for us. The sentence is for the log."""


class AnotherCodec(NotAStream):
    """A carrier brings sound of which we can make nothing."""

    def __init__(self, codec: str, parameters: dict[str, str]) -> None:
        super().__init__(f"the stream's sound is {codec}")
        self.codec = codec
        self.parameters = parameters


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """What a carrier says of a stream at its start."""

    stream_id: str
    call_ref: str
    parameters: dict[str, str]
    law: Law = PCMU


async def started(connection: ServerConnection, dialect: Dialect) -> Started:
    """Wait for a stream's start.

    Raises:
        AnotherCodec
        NotAStream: something else came, or nothing in time.
        ConnectionClosed
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                document = _read(await connection.recv())
                match document.get("event"):
                    case "start":
                        try:
                            return _read_start(document, dialect)
                        except NOT_OF_ITS_FORM as problem:
                            raise NotAStream(f"the start is not of its form: {problem}") from None
                    case "connected":
                        continue
                    case other:
                        raise NotAStream(f"{other!r} came before the start")
    except TimeoutError:
        raise NotAStream("no start came in time") from None


def _read_start(document: dict[str, Any], dialect: Dialect) -> Started:
    start = document.get("start")
    if not isinstance(start, dict):
        raise NotAStream("the start has no description")
    form = start.get(dialect.media_format) or {}
    codec, rate_hz = form.get("encoding", PCMU.name), int(form.get(dialect.sample_rate, RATE_HZ))
    law = LAWS.get(codec)
    parameters = {str(name): str(value) for name, value in (start.get(dialect.parameters) or {}).items()}
    if law is None or rate_hz != RATE_HZ:
        raise AnotherCodec(f"{codec}/{rate_hz}", parameters)
    return Started(
        stream_id=str(start.get(dialect.stream_id) or document.get(dialect.stream_id) or ""),
        call_ref=str(start.get(dialect.call_ref) or ""),
        parameters=parameters,
        law=law,
    )


class StreamLeg(Leg):
    def __init__(self, connection: ServerConnection, start: Started, dialect: Dialect) -> None:
        self.codec = start.law.name
        self._connection = connection
        self._start = start
        self._dialect = dialect
        stream_id = json.dumps(start.stream_id)
        self._head, _, self._tail = dialect.media.replace("STREAM", stream_id).partition("PAYLOAD")
        self._mark_message = dialect.mark.replace("STREAM", stream_id)
        self._clear_message = dialect.clear.replace("STREAM", stream_id)
        self._newest: tuple[int, int, int] | None = None
        """Of the caller's newest piece of sound: its number, and where it begins and ends."""
        self._trim = Trim()
        self._sent = self._heard = 0
        """Frames, of which the carrier has the first and has played the second."""
        self._marks: collections.deque[tuple[str, int]] = collections.deque(maxlen=MOST_MARKS)
        """Marks on their way, and how many frames were sent before each."""
        self._marks_sent = 0
        self._mark_came_back = asyncio.Event()
        self._malformed = 0
        self._is_over = False

    # --- from the telephone ----------------------------------------------------------------------------------------
    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while (message := await self._receive()) is not None:
                try:
                    document = _read(message)
                    if document.get("event") == "stop":
                        break
                    event = self._read_event(document)
                except (NotAStream, *NOT_OF_ITS_FORM):
                    self._malformed += 1
                    if self._malformed > MOST_MALFORMED:
                        log.warning("stream.malformed", call=self._start.call_ref)
                        break
                    continue
                if event is not None:
                    yield event
        finally:
            self._is_over = True
            self._mark_came_back.set()

    async def _receive(self) -> str | bytes | None:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                return await self._connection.recv()
        except TimeoutError:
            log.warning("stream.silent", call=self._start.call_ref)
        except ConnectionClosed:
            pass
        return None

    def _read_event(self, document: dict[str, Any]) -> Event | None:
        if document.get(self._dialect.stream_id, self._start.stream_id) != self._start.stream_id:
            return None
        event = document.get("event")
        if event == "media":
            return self._read_sound(document["media"])
        if event == "dtmf":
            return Key(str(document["dtmf"]["digit"]).upper())
        if event == self._dialect.played:
            self._hear_mark(str(document.get("mark", document)["name"]))
        elif event and event == self._dialect.cleared:
            self._hear_mark(ALL_CLEARED)
        return None

    def _read_sound(self, media: dict[str, Any]) -> Sound | None:
        """Return a piece of the caller's sound. Its number tells its place: carriers round their times."""
        if media.get("track", "inbound") != "inbound":
            return None
        number = int(media["chunk"])
        payload = base64.b64decode(media["payload"], validate=True)
        if not 0 < len(payload) <= LONGEST_PIECE_BYTES:
            raise NotAStream("a piece of sound is empty or too long")
        return Sound(number, self._place(number, len(payload)), self._start.law.decode(payload), time.monotonic())

    def _place(self, number: int, length: int) -> int:
        """Return where a piece begins. Lengths may change within a call: what lies between two pieces is as long as
        the one that comes later.
        """
        newest, begin, end = self._newest or (number - 1, 0, number * length)
        if number <= newest:
            return begin - (newest - number) * length
        position = end + (number - newest - 1) * length
        self._newest = number, position, position + length
        return position

    def _hear_mark(self, name: str) -> None:
        """Take in that all before a mark was played, or was forgotten with it."""
        while any(sent == name for sent, _ in self._marks):
            sent, frames = self._marks.popleft()
            self._heard = max(self._heard, frames)
            if sent == name:
                break
        self._mark_came_back.set()

    # --- to the telephone ------------------------------------------------------------------------------------------
    async def play(self, frame: Samples | OpusPacket) -> None:
        assert not isinstance(frame, OpusPacket)  # no stream carries them
        # What was sent since the last mark may be heard already: the least of what is said over a while counts.
        ahead_seconds = (self._marks[-1][1] - self._heard) * FRAME_SECONDS if self._marks else 0.0
        if self._trim.leaves_out(frame, ahead_seconds, time.monotonic()):
            return
        payload = base64.b64encode(PCMU.encode(frame)).decode("ascii")
        await self._send(f"{self._head}{payload}{self._tail}")
        self._sent += 1
        if self._sent % MARK_EACH_FRAMES == 0:
            await self._mark()

    async def clear(self) -> None:
        if self._dialect.cleared:
            self._marks.append((ALL_CLEARED, self._sent))
        await self._send(self._clear_message)

    async def wait_until_played(self) -> None:
        await self._mark()
        while self._heard < self._sent and not self._is_over:
            self._mark_came_back.clear()
            await self._mark_came_back.wait()

    async def hang_up(self) -> None:
        """Close the stream: the carrier goes on with its document, which asks us what comes next."""
        self._is_over = True
        await self._connection.close()

    async def transfer(self, number: str) -> None:
        """Do the same: what was written of this leg says whom the carrier is to dial."""
        await self.hang_up()

    async def _mark(self) -> None:
        self._marks_sent += 1
        name = f"m{self._marks_sent}"
        self._marks.append((name, self._sent))
        await self._send(self._mark_message.replace("NAME", name))

    async def _send(self, message: str) -> None:
        if not self._is_over:
            try:
                await self._connection.send(message)
            except ConnectionClosed:
                self._is_over = True


def _read(message: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        raise NotAStream("a message was not JSON") from None
    if not isinstance(document, dict):
        raise NotAStream("a message was no object")
    return document
