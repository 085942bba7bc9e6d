"""What a telephone call costs: `make bench-telephony`, `python -m benchmarks.telephony [--lines opus] [--calls 1 10]`.

A simulated Twilio opens streams and sends a frame of mu-law every 20 ms; the bridge, on a core of its own, makes Opus
of each and sends it to a stand-in for gateway and worker, which sends it back; the bridge makes mu-law of it again.
Then the same with calls of SIP, once they were answered, by G.711 and by Opus: RTP, its pace and RTCP.
The delay is of the sound itself: from when a beep was sent until it is heard again, both directions together, with all
that filters and Opus hold back (7.5 ms a direction). CPU is the kernel's count of the bridge's process.
Without: the database, which a call asks three times in all.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.telephony_lines import hold_rtp_call, open_lines, payloads_of
from gpu_workers import protocol
from voice.telephony.bridge import Bridge, Ending, Figures
from voice.telephony.dialects import TWILIO
from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMU, RATE_HZ, Samples
from voice.telephony.streams import StreamLeg, started
from voice.times import percentile

ROOT = Path(__file__).resolve().parent.parent
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
SETTLING_SECONDS = 3.0
BEEP_EACH_FRAMES = 25
LINES = {"twilio": [1, 10, 20, 30, 40], "PCMU": [1, 10, 20, 30], "opus": [1, 10, 40, 100]}
"""How many calls at a time each is measured with."""
COLUMNS = (
    ("line", 8),
    ("calls", 6),
    ("p50 ms", 8),
    ("p99 ms", 8),
    ("max ms", 8),
    ("CPU %", 7),
    ("% a call", 9),
    ("MiB a call", 10),
    ("lost", 5),
)


class NoRecord:
    async def began(self, call_id: uuid.UUID) -> None: ...
    async def find_transfer(self) -> str | None: ...
    async def find_words(self, ending: Ending) -> bytes | None: ...
    async def ended(self, ending: Ending, figures: Figures) -> None: ...


async def serve_bridge(gateway: str) -> None:
    """Bridge every stream that comes; print the port."""

    async def hold(connection: ServerConnection) -> None:
        leg = StreamLeg(connection, await started(connection, TWILIO), TWILIO)
        await Bridge(leg, gateway, NoRecord()).hold()

    async with serve(hold, "127.0.0.1", 0, compression=None, max_size=65_536) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


async def serve_lines(gateway: str, name: str, calls: int) -> None:
    """Bridge so many lines of RTP, each from when something is said on it; print their ports."""

    async def hold(leg: Any) -> None:
        await leg.is_spoken_on.wait()
        await Bridge(leg, gateway, NoRecord()).hold()

    legs = await open_lines(name, calls)
    print(json.dumps([leg.line.port for leg in legs]), flush=True)
    await asyncio.gather(*(work for leg in legs for work in (leg.run(), hold(leg))))


async def serve_echo() -> None:
    """Answer as gateway and worker together, and send each frame back; print the port."""

    async def echo(connection: ServerConnection) -> None:
        await connection.send(protocol.handshake())
        await connection.send(protocol.metadata({"type": "call", "call_id": str(uuid.uuid4())}))
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


class Child:
    def __init__(self, *arguments: str, core: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.telephony", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509  (no threads here)
        )
        assert self.process.stdout is not None
        self.told: Any = json.loads(self.process.stdout.readline())
        """Its port, or those of its lines."""

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    @property
    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def beeps() -> Samples:
    """Return the sound of BEEP_EACH_FRAMES: a beep of 100 ms, and silence."""
    at = np.arange(BEEP_EACH_FRAMES * FRAME_SAMPLES) / RATE_HZ
    return (0.4 * np.sin(2 * np.pi * 1000 * at + np.pi / 2) * (at < 0.1)).astype(np.float32)


def for_twilio(sound: Samples) -> list[str]:
    coded = PCMU.encode(sound)
    return [base64.b64encode(coded[i : i + FRAME_SAMPLES]).decode() for i in range(0, len(coded), FRAME_SAMPLES)]


async def hold_call(port: int, payloads: list[str], seconds: float, delays: list[float], late: dict[str, Any]) -> None:
    """Beep for so long, and note when each beep is heard again."""
    spoken: list[float] = []
    heard, quiet_frames = 0, 0
    async with connect(f"ws://127.0.0.1:{port}/twilio", compression=None, proxy=None) as socket:

        async def send(event: str, **fields: Any) -> None:
            await socket.send(json.dumps({"event": event, "streamSid": "MZ", **fields}))

        await send("connected")
        await send("start", start={"streamSid": "MZ", "callSid": "CA", "customParameters": {}})
        ready = asyncio.Event()

        async def listen() -> None:
            nonlocal heard, quiet_frames
            async for message in socket:
                at, document = time.monotonic(), json.loads(message)
                if document["event"] == "clear":
                    ready.set()
                elif document["event"] == "mark":
                    await send("mark", mark=document["mark"])
                elif document["event"] == "media":
                    loud = np.abs(PCMU.decode(base64.b64decode(document["media"]["payload"]))) > 0.1
                    if loud.any() and quiet_frames > 5 and heard < len(spoken):
                        if spoken[heard] > begins_at:
                            delays.append((at + int(loud.argmax()) / RATE_HZ - spoken[heard]) * 1000)
                        heard += 1
                    quiet_frames = 0 if loud.any() else quiet_frames + 1

        listening = asyncio.create_task(listen())
        await asyncio.wait_for(ready.wait(), 10)
        begins_at = time.monotonic() + SETTLING_SECONDS
        await asyncio.sleep(BEEP_EACH_FRAMES * FRAME_SECONDS * np.random.default_rng(id(socket)).random())
        due = time.monotonic()
        for number in range(int((SETTLING_SECONDS + seconds) / FRAME_SECONDS)):
            at = time.monotonic()
            late["worst_ms"] = max(late["worst_ms"], (at - due) * 1000)
            if number >= BEEP_EACH_FRAMES and number % BEEP_EACH_FRAMES == 0:
                spoken.append(at)
            # The first round is silent: it is what a beep is heard after.
            payload = payloads[number % BEEP_EACH_FRAMES if number >= BEEP_EACH_FRAMES else -1]
            await send("media", media={"track": "inbound", "chunk": str(number + 1), "payload": payload})
            due += FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.sleep(0.5)
        late["lost"] += len(spoken) - heard
        listening.cancel()


async def measure(calls: int, seconds: float, lines: str) -> dict[str, Any]:
    load_core, bridge_core = sorted(os.sched_getaffinity(0))[:2] if len(os.sched_getaffinity(0)) > 1 else (0, 0)
    echo = Child("--echo", core=load_core)
    gateway = f"ws://127.0.0.1:{echo.told}/call/x/api/chat"
    bridge = Child("--bridge", gateway, "--lines", lines, "--calls", str(calls), core=bridge_core)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {load_core})
    try:
        delays: list[float] = []
        late: dict[str, Any] = {"worst_ms": 0.0, "lost": 0.0, "delays": delays}
        before = bridge.resident_bytes
        if lines == "twilio":
            payloads = for_twilio(beeps())
            calling = [hold_call(bridge.told, payloads, seconds, delays, late) for _ in range(calls)]
        else:
            coded, held_back = payloads_of(lines, beeps())
            begins_at = time.monotonic() + SETTLING_SECONDS
            calling = [
                hold_rtp_call(lines, port, coded, held_back, begins_at, begins_at + seconds, late)
                for port in bridge.told
            ]
        holding = [asyncio.create_task(each) for each in calling]
        await asyncio.sleep(SETTLING_SECONDS)
        began, cpu = time.monotonic(), bridge.cpu_seconds
        await asyncio.sleep(max(1.0, seconds - 1))
        share = (bridge.cpu_seconds - cpu) / (time.monotonic() - began)
        grown = bridge.resident_bytes - before
        await asyncio.gather(*holding)
    finally:
        os.sched_setaffinity(0, cores)
        bridge.stop()
        echo.stop()
    return {
        "line": lines,
        "calls": calls,
        "p50_ms": percentile(delays, 0.5),
        "p99_ms": percentile(delays, 0.99),
        "max_ms": max(delays, default=None),
        "cpu_share": share,
        "bytes_per_call": grown / calls,
        "lost": int(late["lost"]),
        "load_late_ms": late["worst_ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, nargs="*", help="at a time, in each round")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--lines", choices=LINES, nargs="*", default=list(LINES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bridge", metavar="GATEWAY", help=argparse.SUPPRESS)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bridge:
        asyncio.run(
            serve_bridge(arguments.bridge)
            if arguments.lines == ["twilio"]
            else serve_lines(arguments.bridge, arguments.lines[0], arguments.calls[0])
        )
    if arguments.echo:
        asyncio.run(serve_echo())
    if not arguments.json:
        print("".join(f"{name:>{width}}" for name, width in COLUMNS), flush=True)
    rounds = [(lines, calls) for lines in arguments.lines for calls in arguments.calls or LINES[lines]]
    for lines, calls in rounds:
        found = asyncio.run(measure(calls, arguments.seconds, lines))
        if arguments.json:
            print(json.dumps(found), flush=True)
            continue
        cells = (
            lines,
            str(calls),
            *(f"{found[name] or float('nan'):.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
            f"{100 * found['cpu_share']:.0f}",
            f"{100 * found['cpu_share'] / calls:.2f}",
            f"{found['bytes_per_call'] / 2**20:.2f}",
            str(found["lost"]),
        )
        print("".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True)), flush=True)


if __name__ == "__main__":
    main()
