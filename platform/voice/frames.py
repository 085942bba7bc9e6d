"""The server's side of a caller's WebSocket, bounded where the library is not.

It knows frames. Messages, their size and their order are voice.sockets'.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from gpu_workers.protocol import CloseCode

MOST_PIECES = 1024
"""Of one message; a limit of bytes does not count empty pieces."""


class BoundedWebSockets(WebSocketsSansIOProtocol):
    """Holds no more for a caller who floods it with pings or pieces of a message, or whose request is none."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None:  # of an address over the library's limit, for instance
            self.transport.close()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            # Who does not read what is sent would not read this answer either: drop it.
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MOST_PIECES:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, CloseCode.MESSAGE_TOO_BIG.reason)
            self.handle_parser_exception()
