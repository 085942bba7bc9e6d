"""SIP over TCP and TLS: connections of peers, and ours to them, each used again for as long as it is there.

A stranger is closed before a byte of it is read, so also before TLS. What one address and all may hold is bounded; who
begins a message has to end it. What messages mean is the wire's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any, cast

import structlog
from prometheus_client import Gauge

from voice.telephony.sip.door import DROPPED, Door, Peer
from voice.telephony.sip.framing import PING, PONG, BadStream, Framer
from voice.telephony.sip.hops import Address, Hop, Transport

log = structlog.get_logger(__name__)

CONNECTIONS = Gauge("warmline_sip_connections", "Connections of SIP peers over TCP and TLS.")
CONNECT_SECONDS = 5.0
HANDSHAKE_SECONDS = 5.0
MESSAGE_SECONDS = 10.0
"""How long a connection may take for its first message, and a message from its beginning to its end."""
LOOK_SECONDS = 2.0
PING_SECONDS = 30.0
"""How often a connection that we made is kept alive: a NAT between forgets sooner than a registration ends."""
PONG_SECONDS = 10.0
"""Who has answered a ping once, and then does not for so long, is gone."""
AGAIN_SECONDS = 0.1
"""How long a peer that sends too much is not read from."""
MOST_UNSENT_BYTES = 256 * 1024
"""A peer that does not read so much is gone."""
MOST_QUEUED = 64
"""Messages that wait for a connection."""
ADDRESS_SHARE = 4
"""An address may have a quarter of all connections."""
BACKLOG = 64

Hear = Callable[[bytes, Peer, Transport, Address], None]


class Connection(asyncio.Protocol):
    def __init__(self, streams: Streams, transport: Transport, address: Address, peer: Peer, *, is_ours: bool) -> None:
        self.key = transport, address
        self.is_ours = is_ours
        """Whether we made it."""
        self.used_at = time.monotonic()
        self.lost = asyncio.Event()
        self.queued: list[bytes] = []
        self._streams = streams
        self._peer = peer
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._has_spoken = is_ours
        self._begun_at = time.monotonic()
        self._is_waiting = False
        self._pinged_at = 0.0
        self._answers_pings = False
        self._half_pings = 0
        self._unread: bytes | None = None
        """A message that is looked at once its peer may send again."""

    @property
    def address(self) -> Address:
        return self.key[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.lost.is_set():  # it had to make room for another meanwhile
            self._transport.abort()
            return
        self._begun_at = time.monotonic()
        for data in self.queued:
            self._transport.write(data)
        self.queued.clear()

    def connection_lost(self, problem: Exception | None) -> None:
        self.lost.set()
        self._streams.forget(self)

    def close(self) -> None:
        """End it at once; what was written and not sent is lost where the peer does not read."""
        self.connection_lost(None)
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def send(self, data: bytes) -> None:
        self.used_at = time.monotonic()
        if self._transport is None:
            if len(self.queued) < MOST_QUEUED:
                self.queued.append(data)
        elif self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            log.warning("sip.peer_reads_nothing", peer=self.address[0])
            self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.used_at = time.monotonic()
        if not self._framer.has_begun:
            self._begun_at = self.used_at
        try:
            self._framer.append(data)
            if not self._is_waiting:
                self._read_on()
        except BadStream as problem:
            DROPPED.labels("malformed").inc()
            log.debug("sip.bad_stream", source=self.address[0], problem=str(problem))
            self.close()

    def _read_on(self) -> None:
        while not self.lost.is_set() and self._transport is not None and not self._transport.is_closing():
            message = self._unread or self._framer.take()
            if message is None:
                return
            if not self._peer.may_send():
                # Nothing is sent twice on a stream, so nothing is dropped: the peer has to wait.
                self._unread, self._is_waiting = message, True
                self._transport.pause_reading()
                asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._go_on)
                return
            self._unread = None
            self._begun_at = time.monotonic()
            self._take(message)

    def _go_on(self) -> None:
        self._is_waiting = False
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._read_on()
        except BadStream:
            DROPPED.labels("malformed").inc()
            self.close()
        if not self._is_waiting and not self._transport.is_closing():
            self._transport.resume_reading()

    def _take(self, message: bytes) -> None:
        if message == PING:
            self.send(PONG)
        elif message == PONG:
            self._take_pong()
        else:
            self._has_spoken = True
            self._half_pings = 0
            self._streams.hear(message, self._peer, *self.key)

    def _take_pong(self) -> None:
        if self._pinged_at:
            self._pinged_at, self._answers_pings = 0.0, True
            return
        self._half_pings += 1
        if self._half_pings == 2:  # a ping that came in two pieces
            self._half_pings = 0
            self.send(PONG)

    def look(self, now: float) -> None:
        """End it where a message does not end, or keep it alive."""
        if self._transport is None or self._is_waiting:
            return
        is_late = now - self._begun_at > MESSAGE_SECONDS
        if is_late and (self._framer.has_begun or not self._has_spoken):
            DROPPED.labels("slow").inc()
            self._transport.abort()
        elif self._pinged_at and self._answers_pings and now - self._pinged_at > PONG_SECONDS:
            log.warning("sip.no_pong", peer=self.address[0])
            self._transport.abort()
        elif self.is_ours and not self._pinged_at and now - self.used_at > PING_SECONDS:
            self.send(PING)
            self._pinged_at = now
        elif self._pinged_at and not self._answers_pings and now - self._pinged_at > PING_SECONDS:
            self._pinged_at = 0.0  # one that answers no pings is sent them all the same


class Streams:
    """All connections of a process."""

    def __init__(self, door: Door, hear: Hear, *, most: int, certificate: ssl.SSLContext | None) -> None:
        """
        Args:
            most: connections at a time.
            certificate: with which peers' connections are taken over TLS.
        """
        self.hear = hear
        self._door = door
        self._most = most
        self._certificate = certificate
        self._trusted: ssl.SSLContext | None = None
        self._connections: dict[tuple[Transport, Address], Connection] = {}
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def trust(self, context: ssl.SSLContext) -> None:
        """Say whose certificates are believed where we connect."""
        self._trusted = context

    def listen(self, transport: Transport, host: str, port: int) -> None:
        """
        Raises:
            OSError
        """
        listener = socket.create_server((host, port), backlog=BACKLOG)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._start(self._accept(listener, transport), "accept")

    def start(self) -> None:
        self._start(self._look(), "look at connections")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections.values()):
            connection.close()

    def send(self, data: bytes, hop: Hop) -> None:
        """Send on the connection of a hop; where that is gone, on another, new one if need be."""
        connection = self._find(hop)
        if connection is None:
            connection = self._connect(hop)
        if connection is not None:
            connection.send(data)

    async def wait_until_lost(self, hop: Hop) -> None:
        if (connection := self._find(hop)) is not None:
            await connection.lost.wait()

    def forget(self, connection: Connection) -> None:
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]
            CONNECTIONS.set(len(self._connections))

    def _find(self, hop: Hop) -> Connection | None:
        found = self._connections.get((hop.transport, hop.address))
        return found or self._connections.get((hop.transport, hop.listens_at))

    def _keep(self, connection: Connection) -> bool:
        """Take a connection in, if need be for another of the same address; return whether there is room."""
        same = [each for each in self._connections.values() if each.address[0] == connection.address[0]]
        theirs = [each for each in same if not each.is_ours]
        if theirs and len(same) >= max(1, self._most // ADDRESS_SHARE):
            min(theirs, key=lambda each: each.used_at).close()
        if len(self._connections) >= self._most:
            return False
        self._connections[connection.key] = connection
        CONNECTIONS.set(len(self._connections))
        return True

    # --- connections of peers --------------------------------------------------------------------------------------
    async def _accept(self, listener: socket.socket, transport: Transport) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as problem:  # no more files, for instance
                log.warning("sip.not_accepted", problem=str(problem))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            peer = self._door.find(address[0])
            if peer is None or not peer.may_send():
                DROPPED.labels("stranger" if peer is None else "flood").inc()
                _close_at_once(accepted)
            else:
                connection = Connection(self, transport, address[:2], peer, is_ours=False)
                if self._keep(connection):
                    self._start(self._take(connection, accepted), "take a connection")
                else:
                    DROPPED.labels("full").inc()
                    _close_at_once(accepted)
            await asyncio.sleep(0)  # a crowd that waits is accepted without one

    async def _take(self, connection: Connection, accepted: socket.socket) -> None:
        secure: dict[str, Any] = {}
        if connection.key[0] is Transport.TLS:
            secure = {"ssl": self._certificate, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        try:
            _keep_alive(accepted)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted, **secure)
        except OSError as problem:  # those of TLS are among them
            log.info("sip.no_connection", peer=connection.address[0], problem=str(problem)[:100])
            accepted.close()
            self.forget(connection)
        except BaseException:
            accepted.close()
            self.forget(connection)
            raise

    # --- ours ------------------------------------------------------------------------------------------------------
    def _connect(self, hop: Hop) -> Connection | None:
        peer = self._door.find(hop.listens_at[0])
        if peer is None:
            return None
        connection = Connection(self, hop.transport, hop.listens_at, peer, is_ours=True)
        if not self._keep(connection):
            log.warning("sip.too_many_connections")
            return None
        self._start(self._open(connection, hop), "connect")
        return connection

    async def _open(self, connection: Connection, hop: Hop) -> None:
        secure: dict[str, Any] = {}
        if hop.transport is Transport.TLS:
            secure = {"ssl": self._trusted or ssl.create_default_context(), "server_hostname": hop.name}
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: connection, *hop.listens_at, **secure
                )
            _keep_alive(transport.get_extra_info("socket"))
        except (OSError, ValueError) as problem:  # a timeout and those of TLS are among them
            log.warning("sip.not_connected", peer=hop.listens_at[0], problem=str(problem)[:200] or "it took too long")
            connection.connection_lost(problem)

    # --- all of them -----------------------------------------------------------------------------------------------
    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for connection in list(self._connections.values()):
                connection.look(now)

    def _start(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _keep_alive(connected: socket.socket) -> None:
    """Have the kernel find those who are gone: an idle connection is kept for as long as its peer is there."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _close_at_once(accepted: socket.socket) -> None:
    """Close without waiting for the other side, which costs nothing from then on."""
    with contextlib.suppress(OSError):
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
