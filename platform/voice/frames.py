"""The server's side of a caller's WebSocket, bounded where the library is not.

It knows frames. Messages, their size and their order are voice.sockets'.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from gpu_workers.protocol import CloseCode

MOST_PINGS = 100
"""Without a message between them. Reading stops after a message, not after a ping: a flood would starve all calls."""
MOST_PIECES = 1024
"""Of one message; a limit of bytes does not count empty pieces."""


class BoundedWebSockets(WebSocketsSansIOProtocol):
    """Lets go a caller who floods it with pings or pieces of a message, or whose request is none."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pings = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None:  # of an address over the library's limit, for instance
            self.transport.close()

    def handle_ping(self) -> None:
        self._pings += 1
        if self._pings <= MOST_PINGS:
            super().handle_ping()
        else:
            self._let_go(CloseCode.PROTOCOL_ERROR)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MOST_PIECES:
            super().handle_cont(event)
        else:
            self._let_go(CloseCode.MESSAGE_TOO_BIG)

    def send_receive_event_to_app(self) -> None:
        self._pings = 0
        super().send_receive_event_to_app()

    def _let_go(self, code: CloseCode) -> None:
        if not self.close_sent:
            self.conn.fail(code, code.reason)
            self.handle_parser_exception()
