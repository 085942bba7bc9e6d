"""Lines of RTP for `benchmarks.telephony`: the bridge's end of them, and a caller's, who beeps and listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMA, PCMU, RATE_HZ, Samples
from voice.telephony.legs import Event, Leg
from voice.telephony.listening import OpusEar
from voice.telephony.opus import OpusPacket
from voice.telephony.pacing import Pacer
from voice.telephony.sip.codecs import G711, Codec, Opus
from voice.telephony.sip.rtp import HEADER, RtpLine

CODECS: dict[str, Codec] = {"PCMU": G711(PCMU), "PCMA": G711(PCMA), "opus": Opus(111)}
KEYS_TYPE = 101


class RtpLeg(Leg):
    """What a SIP call is once it was answered: its sound, its pace, and RTCP."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec.name
        self.line = RtpLine(codec=codec, keys_type=KEYS_TYPE, hear=self._hear)
        self.is_spoken_on = asyncio.Event()
        self._pacer = Pacer(codec.voice(), self.line.send)
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def run(self) -> None:
        await asyncio.gather(self._pacer.run(), self.line.tell())

    def _hear(self, event: Event) -> None:
        self.is_spoken_on.set()
        self._events.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            yield await self._events.get()

    async def play(self, frame: Samples | OpusPacket) -> None:
        self._pacer.put(frame)

    async def clear(self) -> None:
        self._pacer.clear()

    async def wait_until_played(self) -> None: ...
    async def hang_up(self) -> None: ...
    async def transfer(self, number: str) -> None: ...


class Caller(asyncio.DatagramProtocol):
    """One end of a line whose other end is the bridge's."""

    def __init__(self, codec: Codec, hear: Any) -> None:
        self._codec = codec
        self._hear = hear
        self._ear = OpusEar()
        self._transport: Any = None
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if data[1] & 0x7F != self._codec.payload_type:
            return
        at, piece = time.monotonic(), self._codec.decode(data[HEADER.size :])
        self._hear(at, self._ear.hear(piece) if isinstance(piece, OpusPacket) else piece)

    def close(self) -> None:
        self._transport.close()

    def send(self, payload: bytes) -> None:
        ticks = self._number * FRAME_SAMPLES * self._codec.ticks & 0xFFFFFFFF
        head = HEADER.pack(0x80, self._codec.payload_type, self._number & 0xFFFF, ticks, 7)
        self._transport.sendto(head + payload)
        self._number += 1


async def open_lines(name: str, count: int) -> list[RtpLeg]:
    """Open the bridge's end of so many lines."""
    legs = [RtpLeg(CODECS[name]) for _ in range(count)]
    for leg in legs:
        await leg.line.open("127.0.0.1", range(40_000, 42_000, 2))
        leg.line.connect(("127.0.0.1", 9), control=("127.0.0.1", 9))
    return legs


async def open_caller(name: str, port: int, hear: Any) -> Caller:
    _, caller = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Caller(CODECS[name], hear), remote_addr=("127.0.0.1", port)
    )
    return caller


def payloads_of(name: str, sound: Samples) -> tuple[list[bytes], float]:
    """Return sound for a line, in frames of 20 ms, and by how many seconds a decoder hears its beginning later."""
    voice = CODECS[name].voice()
    frames = [sound[at : at + FRAME_SAMPLES] for at in range(0, len(sound), FRAME_SAMPLES)]
    payloads = [voice.encode(frame) for frame in (*frames, *frames)][len(frames) :]
    if name != "opus":
        return payloads, 0.0
    ear = OpusEar()
    heard = np.concatenate([ear.hear(CODECS[name].decode(payload)) for payload in payloads])  # type: ignore[arg-type]
    return payloads, int((np.abs(heard) > 0.1).argmax()) / RATE_HZ


async def hold_rtp_call(
    name: str,
    port: int,
    payloads: list[bytes],
    held_back: float,
    begins_at: float,
    ends_at: float,
    found: dict[str, Any],
) -> None:
    """Beep on a line, and note when each beep is heard again, without what the payloads hold back by themselves."""
    spoken: list[float] = []
    heard, quiet_frames = 0, 0

    def hear(at: float, sound: Samples) -> None:
        nonlocal heard, quiet_frames
        loud = np.abs(sound) > 0.1
        if loud.any() and quiet_frames > 5 and heard < len(spoken):
            if spoken[heard] > begins_at:
                found["delays"].append((at + int(loud.argmax()) / RATE_HZ - spoken[heard] - held_back) * 1000)
            heard += 1
        quiet_frames = 0 if loud.any() else quiet_frames + 1

    caller = await open_caller(name, port, hear)
    await asyncio.sleep(len(payloads) * FRAME_SECONDS * np.random.default_rng(port).random())
    due, number = time.monotonic(), 0
    while due < ends_at:
        at = time.monotonic()
        found["worst_ms"] = max(found["worst_ms"], (at - due) * 1000)
        if number >= len(payloads) and number % len(payloads) == 0:
            spoken.append(at)
        caller.send(payloads[number % len(payloads) if number >= len(payloads) else -1])
        number += 1
        due += FRAME_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.sleep(0.5)
    found["lost"] += len(spoken) - heard
    caller.close()
