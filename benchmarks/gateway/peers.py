"""The two ends of a measured call, as processes: `python -m benchmarks.gateway.peers echo|load …`.

Both write and read frames themselves, so that their own price is small and the same for every proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop
from websockets.frames import apply_mask
from websockets.uri import parse_uri
from websockets.utils import accept_key

from benchmarks.figures import percentile
from gpu_workers.protocol import Kind, handshake
from voice.frames import PING_SECONDS
from voice.worker_protocol import WorkerProtocol

MASK = b"\x12\x34\x56\x78"
SETTLE_SECONDS = 2.0
ANSWER_SECONDS = 30.0


# --- the worker ------------------------------------------------------------------------------------------------------
class Echo(asyncio.Protocol):
    """A worker that sends every audio message back, and answers a `start` message with the handshake."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.rest = b""
        self.is_open = False

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        if not self.is_open:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self.rest = data
                return
            key = next(
                line[18:].strip() for line in data.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
            )
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
            )
            data, self.is_open = data[end:], True
        begin, answer = 0, []
        while (frame := whole_frame(data, begin, masked=True)) is not None:
            first, head, end = frame
            if first == 0x88:
                self.transport.write(b"\x88\x00")
                self.transport.close()
            elif first == 0x82:
                message = apply_mask(data[head:end], data[head - 4 : head])
                answer.append(handshake() if message[0] == Kind.METADATA else message)
            begin = end
        self.rest = data[begin:]
        if answer:
            self.transport.write(b"".join(head_of(message) + message for message in answer))


async def echo(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


# --- the callers -----------------------------------------------------------------------------------------------------
class Caller(WorkerProtocol):
    """A caller that sends frames which hold the time at which they were sent."""

    def __init__(self, url: str) -> None:
        super().__init__(parse_uri(url), {}, ping_seconds=PING_SECONDS)
        self.sent = self.heard = 0
        self.delays: list[float] = []
        self.is_measured = False
        self.is_ready = asyncio.get_running_loop().create_future()
        self._tail = b""

    def frames_received(self, data: bytes) -> None:
        at = time.monotonic()
        data, begin = self._tail + data, 0
        while (frame := whole_frame(data, begin, masked=False)) is not None:
            first, head, end = frame
            if first == 0x82 and end > head:
                self._take(data, head, at)
            elif first == 0x88:
                self.transport.close()
            begin = end
        self._tail = data[begin:]

    def _take(self, data: bytes, head: int, at: float) -> None:
        if data[head] == Kind.AUDIO:
            self.heard += 1
            if self.is_measured:
                self.delays.append(at - struct.unpack_from("d", data, head + 1)[0])
        elif data[head] == Kind.HANDSHAKE and not self.is_ready.done():
            self.is_ready.set_result(None)

    def say(self, size: int) -> None:
        message = b"\x01" + struct.pack("d", time.monotonic()) + bytes(size - 9)
        self.transport.write(b"\x82" + bytes([0x80 | size]) + MASK + apply_mask(message, MASK))
        self.sent += 1


async def load(urls: Sequence[str], *, rate: float, seconds: float, size: int, greets: bool) -> dict[str, Any]:
    """Hold all calls at once.

    Args:
        greets: the other side sends a handshake when it can talk.
    """
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    callers = await asyncio.gather(*(_call(url, greets) for url in urls))
    opened_seconds = time.monotonic() - began
    _tell({"opened": time.time()})

    def tick(caller: Caller, due: float) -> None:
        if caller.transport.is_closing():
            return
        caller.say(size)
        loop.call_at(due + 1 / rate, tick, caller, due + 1 / rate)

    now = loop.time()
    for number, caller in enumerate(callers):
        due = now + 0.1 + number / len(callers) / rate
        loop.call_at(due, tick, caller, due)
    await asyncio.sleep(SETTLE_SECONDS)
    _tell({"began": time.time()})
    for caller in callers:
        caller.is_measured = True
    sent, heard = sum(caller.sent for caller in callers), sum(caller.heard for caller in callers)
    await asyncio.sleep(seconds)
    sent, heard = sum(caller.sent for caller in callers) - sent, sum(caller.heard for caller in callers) - heard
    for caller in callers:
        caller.is_measured = False
    delays_ms = [1000 * delay for caller in callers for delay in caller.delays]
    _tell({"ended": time.time()})
    await asyncio.to_thread(sys.stdin.readline)  # until the figures of the proxy are taken
    for caller in callers:
        caller.transport.abort()
    return {
        "calls": len(callers),
        "opened_per_second": len(callers) / opened_seconds,
        "sent": sent,
        "heard": heard,
        "delay_ms": {
            "p50": percentile(delays_ms, 0.5),
            "p99": percentile(delays_ms, 0.99),
            "max": max(delays_ms),
        },
    }


async def _call(url: str, greets: bool) -> Caller:
    address = parse_uri(url)
    async with asyncio.timeout(ANSWER_SECONDS):
        _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(url), address.host, address.port)
        await caller.answered
        if greets:
            await caller.is_ready
    return caller


# --- both ------------------------------------------------------------------------------------------------------------
def whole_frame(data: bytes, begin: int, *, masked: bool) -> tuple[int, int, int] | None:
    """Return (first byte, begin of the payload, end) of the frame that begins there; None where it is not whole."""
    if len(data) - begin < 2:
        return None
    length, head = data[begin + 1] & 0x7F, begin + 2
    if length == 126:
        length, head = int.from_bytes(data[begin + 2 : begin + 4]), begin + 4
    head += 4 if masked else 0
    return (data[begin], head, head + length) if head + length <= len(data) else None


def head_of(message: bytes) -> bytes:
    size = len(message)
    return bytes([0x82, size]) if size < 126 else b"\x82\x7e" + size.to_bytes(2)


def _tell(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("echo")
    part.add_argument("--port", type=int, default=0)
    part = parts.add_parser("load")
    part.add_argument("--rate", type=float, required=True)
    part.add_argument("--seconds", type=float, required=True)
    part.add_argument("--size", type=int, default=120)
    part.add_argument("--greets", action="store_true")
    arguments = parser.parse_args()
    if arguments.part == "echo":
        uvloop.run(echo(arguments.port))
    else:
        urls = json.loads(sys.stdin.readline())
        _tell(
            uvloop.run(
                load(
                    urls,
                    rate=arguments.rate,
                    seconds=arguments.seconds,
                    size=arguments.size,
                    greets=arguments.greets,
                )
            )
        )


if __name__ == "__main__":
    main()
