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
    print("calls  turns  first audio after speech, ms: p50   p95   |  parts p50, ms")
    for row in figures["turns"]:
        parts = "  ".join(f"{part} {value:.0f}" for part, value in row["parts_p50_ms"].items())
        print(f"{row['calls']:5}  {row['turns']:5}  {row['p50_ms']:35.0f} {row['p95_ms']:5.0f}   |  {parts}")
    sys.exit(any(row["p95_ms"] >= 1400 for row in figures["turns"]))


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
                delays, reports = asyncio.run(_measure_calls(port, count, -(-turns // count), speech))
                figures["turns"].append(
                    {
                        "calls": count,
                        "turns": len(delays),
                        "p50_ms": float(np.percentile(delays, 50)) * 1000,
                        "p95_ms": float(np.percentile(delays, 95)) * 1000,
                        "parts_p50_ms": {
                            part: float(np.median([report[part] for report in reports])) for part in reports[0]
                        },
                    }
                )
        finally:
            zygote.close()
    return figures


async def _measure_calls(
    port: int, count: int, turns: int, speech: list[np.ndarray]
) -> tuple[list[float], list[dict[str, float]]]:
    results = await asyncio.gather(*(_converse(port, turns, speech) for _ in range(count)))
    return [delay for delays, _ in results for delay in delays], [part for _, parts in results for part in parts]


async def _converse(port: int, turns: int, speech: list[np.ndarray]) -> tuple[list[float], list[dict[str, float]]]:
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
            delays.append(caller.loud_audio(since=ended_at)[0].at - ended_at)
        return delays, [turn["parts_ms"] for turn in caller.metadata("turn")[1:]]


if __name__ == "__main__":
    main()
