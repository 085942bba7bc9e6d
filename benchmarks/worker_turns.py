"""How fast the CPU worker boots and answers: `python -m benchmarks.worker_turns [--calls 1 2 4] [--turns 20]`.

Starts one worker cold and one from a loaded parent, and speaks to the restored one as so many callers at once. A delay
runs from the last loud sample that a caller sends to the first loud sample of the answer that it receives.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpu_workers.protocol import Start
from tests.gpu_workers.callers import LOUD, Caller
from tests.gpu_workers.speech import speak
from tests.gpu_workers.worker_processes import Zygote, cold_worker, loaded_zygote

AGENT = {
    "greeting": "Hello, how can I help?",
    "facts": [
        {"question": "What are your opening hours?", "answer": "We are open from nine to five."},
        {"question": "Where are you?", "answer": "In the old market hall, on the second floor."},
        {"question": "How much is a haircut?", "answer": "A haircut is forty dollars."},
    ],
}
FORKS = 5
GOAL_MS = 1400
"""Of the first audio after speech, at p95."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker_turns", description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--turns", type=int, default=20, help="of all calls together")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), arguments.calls, arguments.turns)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"boot_ms: cold {figures['cold_boot_ms']:.0f}, restored {figures['restored_boot_ms']:.0f} (worst of {FORKS})")
    print("calls  turns  what                   p50 ms   p95 ms")
    for row in figures["turns"]:
        for what, (p50, p95) in row["ms"].items():
            print(f"{row['calls']:5}  {row['turns']:5}  {what:<20} {p50:8.0f} {p95:8.0f}")
    sys.exit(any(row["ms"]["first audio"][1] >= GOAL_MS for row in figures["turns"]))


def measure(folder: Path, calls: list[int], turns: int) -> dict[str, Any]:
    speech = [speak(fact["question"]) for fact in AGENT["facts"]]
    with cold_worker(folder / "cold.log") as (ready, _):
        figures: dict[str, Any] = {"cold_boot_ms": ready["boot_ms"], "turns": []}
    with loaded_zygote(folder) as (path, _):
        zygote = Zygote(path, folder)
        try:
            forks = [zygote.fork(f"fork-{number}", max_sessions=max(calls)) for number in range(FORKS)]
            figures["restored_boot_ms"] = max(fork["boot_ms"] for fork in forks)
            for count in calls:
                port = forks[0]["port"]
                turns_held = asyncio.run(_measure_calls(port, count, -(-turns // count), speech))
                figures["turns"].append(
                    {
                        "calls": count,
                        "turns": len(turns_held),
                        "ms": {
                            what: [float(np.percentile([turn[what] for turn in turns_held], q)) for q in (50, 95)]
                            for what in turns_held[0]
                        },
                    }
                )
        finally:
            zygote.close()
    return figures


async def _measure_calls(port: int, count: int, turns: int, speech: list[np.ndarray]) -> list[dict[str, float]]:
    calls = await asyncio.gather(*(_converse(port, turns, speech) for _ in range(count)))
    return [turn for held in calls for turn in held]


async def _converse(port: int, turns: int, speech: list[np.ndarray]) -> list[dict[str, float]]:
    """Hold a call, and return of each turn its delay, the parts that the worker tells of it, and the rest; in ms."""
    delays = []
    async with Caller.connected(port, Start(call_id="benchmark", agent=AGENT)) as caller:
        await caller.be_silent_until(lambda: caller.transcripts("agent"), limit_seconds=30)
        for turn in range(turns):
            samples = speech[turn % len(speech)]
            last_loud = int(np.flatnonzero(np.abs(samples) > LOUD)[-1]) + 1
            await caller.send_audio(samples[:last_loud])
            ended_at = time.monotonic()
            spoken = len(caller.transcripts("agent"))
            await caller.be_silent_until(
                lambda spoken=spoken: len(caller.transcripts("agent")) > spoken, limit_seconds=30
            )
            delays.append(1000 * (caller.loud_audio(since=ended_at)[0].at - ended_at))
        reports = [turn["parts_ms"] for turn in caller.metadata("turn")[1:]]
    return [
        {"first audio": delay, **parts, "other": delay - sum(parts.values())}
        for delay, parts in zip(delays, reports, strict=True)
    ]


if __name__ == "__main__":
    main()
