"""A connection until it has asked for something, for uvicorn: bounded in time and in number.

Who sends half a request and then nothing holds a file descriptor of the gateway's and no more than that, for a while.
The size of a request's head is h11's limit. See also: voice.caller_protocol, which takes the connection over.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from voice import metrics

NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 40\r\n\r\n"
    b"Too many connections: try again later.\r\n"
)
TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 28\r\n\r\n"
    b"The request did not end.\r\n\r\n"
)


@dataclasses.dataclass(slots=True)
class WaitingRoom:
    """The connections of this process that have not asked yet, and how many may be there for how long."""

    seconds: float
    most: int
    most_of_address: int
    """0 sets no limit, as behind a proxy, whose address is everybody's."""
    waiting: int = 0
    of_address: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def enter(self, address: str) -> bool:
        if self.waiting >= self.most or (self.most_of_address and self.of_address[address] >= self.most_of_address):
            return False
        self.waiting += 1
        self.of_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        self.waiting -= 1
        self.of_address[address] -= 1
        if not self.of_address[address]:
            del self.of_address[address]


class RequestProtocol(H11Protocol):
    def __init__(self, room: WaitingRoom, **given: Any) -> None:
        super().__init__(**given)
        self._room = room
        self._address: str | None = None
        """While it waits in the room."""
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if not self._room.enter(address):
            return self._turn_away(NO_ROOM, "no_room")
        self._address = address
        self._wait()

    def connection_lost(self, problem: Exception | None) -> None:
        self._leave_room()
        super().connection_lost(problem)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._leave_room()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._address is not None:
            self._wait()

    def _wait(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(self._room.seconds, self._turn_away, TOO_LATE, "too_late")

    def _leave_room(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._address is not None:
            self._room.leave(self._address)
            self._address = None

    def _turn_away(self, answer: bytes, why: str) -> None:
        metrics.REQUESTS_REFUSED.labels(reason=why).inc()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
