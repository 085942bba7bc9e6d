"""The short form of `make chaos`: a few calls, everything that may happen to them once, and none is lost."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chaos.fleet import cut, running_fleet
from benchmarks.chaos.run import chaos

EVENTS = (
    "kill_first_worker",
    "cut_callers",
    "fill_worker",
    "restart_database",
    "stop_gateway",
    "restart_valkey",
    "kill_gateway",
)


async def test_no_call_is_lost_whatever_happens(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, successors=2) as fleet:
        figures = await chaos(
            fleet, calls=6, events=EVENTS, pause_seconds=1.0, restart_database=cut, restart_valkey=cut
        )
    assert [event["name"] for event in figures["events"]] == list(EVENTS)
    assert (figures["dropped"], figures["ends_not_written"], figures["undecodable"]) == (0, 0, 0)
    assert figures["difference_outside_kills"] == 0
    assert figures["most_lost_by_a_kill"] <= figures["frames_of_a_checkpoint"]
    assert figures["most_billed_beyond_speech_ms"] < 1_000
    # All of it happened to somebody.
    assert figures["workers_lost_in_calls"] >= 6
    assert figures["callers_connections_lost"] >= 6
    assert figures["calls_at_a_killed_gateway"] >= 1
