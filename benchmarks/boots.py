"""How soon a caller is through when no container runs: restored from a snapshot, and truly cold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.figures import Figure, percentile
from benchmarks.installation import demo_tenant, hold_call, set_pool, wait_for_containers
from tenants.models import Tenant

RESTORED_CALLS = 10
COLD_CALLS = 3
SHORTEST_WINDOW_SECONDS = 2


def measure() -> Iterator[Figure]:
    tenant = demo_tenant()
    restored = _calls(tenant, RESTORED_CALLS, snapshots=True)
    cold = _calls(tenant, COLD_CALLS, snapshots=False)
    assert {call["boot"] for call in restored} == {"restored"}, [call["boot"] for call in restored]
    assert {call["boot"] for call in cold} == {"cold"}, [call["boot"] for call in cold]

    ready = [call["ready_ms"] for call in restored]
    yield Figure("ready from a restored worker, p50", percentile(ready, 0.5), samples=len(ready))
    yield Figure("ready from a restored worker, worst", max(ready), goal=800, samples=len(ready))
    yield Figure(
        "ready from a cold worker, p50", percentile([call["ready_ms"] for call in cold], 0.5), samples=len(cold)
    )
    restored_boot, cold_boot = (median(call["boot_ms"] for call in calls) for calls in (restored, cold))
    yield Figure("boot of a restored worker, p50", restored_boot, samples=len(restored))
    yield Figure("boot of a cold worker, p50", cold_boot, samples=len(cold))
    yield Figure("a cold boot takes so many restored ones", cold_boot / restored_boot, unit="×", goal=10, at_least=True)


def _calls(tenant: Tenant, count: int, *, snapshots: bool) -> list[dict[str, Any]]:
    """Hold calls, each when no container runs."""
    set_pool(
        tenant,
        min_containers=0,
        snapshots=snapshots,
        sessions_per_container=4,
        scaledown_window_seconds=SHORTEST_WINDOW_SECONDS,
    )
    records = []
    for _ in range(count):
        wait_for_containers(tenant, 0)
        record, _ = asyncio.run(hold_call(tenant, []))
        records.append(record)
    return records
