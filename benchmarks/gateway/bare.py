"""What an event loop with a callback in Python costs by itself, for scale: bytes are passed on, and nothing looked at.

`python -m benchmarks.gateway.bare --port 8000 --worker 9000`
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import uvloop


class Side(asyncio.Protocol):
    """One connection; what it brings before the other side stands is kept."""

    def __init__(self) -> None:
        self.other: Side | None = None
        self.early = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
        else:
            self.early += data

    def connection_lost(self, problem: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


async def serve(port: int, worker: int) -> None:
    loop = asyncio.get_running_loop()
    joining: set[asyncio.Task[None]] = set()

    async def join(caller: Side) -> None:
        _, side = await loop.create_connection(Side, "127.0.0.1", worker)
        caller.other, side.other = side, caller
        side.transport.write(caller.early)

    class Caller(Side):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            task = loop.create_task(join(self))
            joining.add(task)
            task.add_done_callback(joining.discard)

    server = await loop.create_server(Caller, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.worker))
