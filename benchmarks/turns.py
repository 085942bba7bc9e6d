"""How soon an agent answers, at one call and at four, and how soon a call's record is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from statistics import median

from benchmarks.figures import Figure, percentile
from benchmarks.installation import demo_tenant, hold_call, questions, set_pool, wait_for_containers

TURNS = 20
"""Of all calls together."""
PARTS = ("end_of_turn", "stt", "llm_ttft", "tts_ttfb", "other")


def measure() -> Iterator[Figure]:
    tenant = demo_tenant()
    set_pool(tenant, min_containers=1, snapshots=True, sessions_per_container=4, scaledown_window_seconds=60)
    wait_for_containers(tenant, 1)
    record_ms = []
    for calls in (1, 4):

        async def hold_together(calls: int = calls) -> list[tuple[dict, float]]:
            return await asyncio.gather(*(hold_call(tenant, questions(TURNS // calls)) for _ in range(calls)))

        records = asyncio.run(hold_together())
        record_ms += [waited for _, waited in records]
        turns = [turn for record, _ in records for turn in record["turns"] if turn["turn_ms"] is not None]
        assert len(turns) == TURNS, f"{len(turns)} turns of {TURNS} were understood"
        times = [turn["turn_ms"] for turn in turns]
        at = f"at {calls} call{'s' if calls > 1 else ''}"
        yield Figure(f"first audio after the caller's speech {at}, p50", percentile(times, 0.5), samples=len(times))
        yield Figure(
            f"first audio after the caller's speech {at}, p95", percentile(times, 0.95), goal=1400, samples=len(times)
        )
        for part in PARTS:
            yield Figure(f"  of it {part}, p50", median(turn["parts_ms"][part] for turn in turns), samples=len(times))
        gateway = [record["gateway_ms"]["p99"] for record, _ in records]
        yield Figure(f"a frame's way through the gateway {at}, p99", max(gateway), samples=calls)
    yield Figure(
        "a call's record with its cost after its end, worst", max(record_ms), goal=1000, samples=len(record_ms)
    )
