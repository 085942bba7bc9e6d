"""The short form of `make chaos`: a few calls, everything that may happen to them once, and none is lost."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chaos.fleet import running_fleet, wires
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
    async with (
        wires() as (variables, cut_database, cut_valkey),
        running_fleet(tmp_path, successors=2, variables=variables) as fleet,
    ):
        figures = await chaos(
            fleet,
            calls=6,
            events=EVENTS,
            pause_seconds=0.5,
            restart_database=cut_database,
            restart_valkey=cut_valkey,
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
