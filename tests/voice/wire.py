"""A TCP connection that a test can cut and mend, between a process and its database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Wire:
    """Forwards connections to a port of this machine.

    Cut: all connections are gone, and new ones too. Held: they stand, and nothing comes through.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_cut = False
        self.carried_bytes = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def hold(self) -> None:
        self._flows.clear()

    def mend(self) -> None:
        self.is_cut = False
        self._flows.set()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flows.wait()
                self.carried_bytes += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[tuple[Wire, int]]:
    """Run a wire; gives it and the port at which it is reached."""
    wire = Wire(port)
    server = await asyncio.start_server(wire.forward, "127.0.0.1", 0)
    try:
        yield wire, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        wire.mend()
        wire.cut()
        await server.wait_closed()
        async with asyncio.timeout(5):
            while wire._writers:  # noqa: ASYNC110  (their ends come from the other side)
                await asyncio.sleep(0.01)
