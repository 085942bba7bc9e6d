"""The client's side of a worker's WebSocket."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Mapping
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.uri import WebSocketURI, parse_uri

from voice.frames import AUDIO, PING_SECONDS, WHOLE_BINARY, Frames, pass_audio

MOST_HEAD_BYTES = 65_536


class WorkerProtocol(Frames):
    """A connection that asks for a WebSocket as soon as it stands; `answered` says how that went."""

    masks = True
    __slots__ = ("_handshake", "_head", "_headers", "answered")

    def __init__(self, address: WebSocketURI, headers: Mapping[str, str], *, ping_seconds: float) -> None:
        super().__init__(ping_seconds=ping_seconds)
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._headers = headers
        self._handshake = ClientProtocol(address, max_size=None)
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        request = self._handshake.connect()
        request.headers.update(self._headers)
        self._handshake.send_request(request)
        self.transport.write(b"".join(self._handshake.data_to_send()))

    def connection_lost(self, problem: Exception | None) -> None:
        super().connection_lost(problem)
        self._answer(InvalidHandshake("the connection was lost"))

    def data_received(self, data: bytes) -> None:
        write, passage = self._write_on, self._passage
        if write is not None and passage is not None and data[0] == WHOLE_BINARY:
            # One message of audio, whole and alone: so nearly every read brings it.
            size = len(data)
            if 2 < size < 128 and data[1] == size - 2 and data[2] == AUDIO:
                self._heard_at = pass_audio(data, 2, passage, write)
                self._pings = 0
                return
            if size > 129 and data[1] == 0x7E and data[2] << 8 | data[3] == size - 4 and data[4] == AUDIO:
                self._heard_at = pass_audio(data, 4, passage, write)
                self._pings = 0
                return
        if self._is_open:
            self.frames_received(data)
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end >= 4:
            head, rest, self._head = self._head[:end], self._head[end:], b""
            self._read_answer(head, rest)
        elif len(self._head) > MOST_HEAD_BYTES:
            self._answer(InvalidHandshake("the answer is too long"))

    def _read_answer(self, head: bytes, rest: bytes) -> None:
        if head[9:12] == b"101":
            self._handshake.receive_data(head)
        else:  # who refuses may send a page with it: nobody reads that
            self._handshake.receive_data(head.partition(b"\r\n")[0] + b"\r\n\r\n")
            self._handshake.receive_eof()
        if self._handshake.handshake_exc is not None:
            self._answer(self._handshake.handshake_exc)
            return
        del self._handshake, self._headers  # which a long call need not hold
        self.opened()
        if not self.answered.done():
            self.answered.set_result(None)
        self.frames_received(rest)

    def _answer(self, problem: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(problem)
        self.transport.close()


async def connect(url: str, headers: Mapping[str, str], *, ping_seconds: float = PING_SECONDS) -> WorkerProtocol:
    """Return an open connection. The caller sets the limit of time.

    Args:
        ping_seconds: how often it is asked, when it says nothing, whether it is there; twice as long, and it is lost.

    Raises:
        OSError: nobody can be reached there, or not in a way to be trusted.
        InvalidStatus: the answer is another than yes.
        InvalidHandshake: the answer is none.
        InvalidURI
    """
    address = parse_uri(url)
    _, protocol = await asyncio.get_running_loop().create_connection(
        lambda: WorkerProtocol(address, headers, ping_seconds=ping_seconds),
        address.host,
        address.port,
        ssl=_trust() if address.secure else None,
    )
    try:
        await protocol.answered
    except BaseException:
        protocol.transport.abort()
        raise
    return protocol


@functools.cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
