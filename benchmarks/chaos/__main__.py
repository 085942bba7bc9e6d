"""Does any call get lost? `make chaos`, or `python -m benchmarks.chaos [--calls 100] [--pause 3]`.

Calls with audio on real processes, while workers are killed, hang and refuse sessions, the database and Valkey restart,
callers lose their network, and gateways are stopped and killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

EVENTS = (
    "kill_first_worker",
    "hang_worker",
    "cut_callers",
    "fill_worker",
    "restart_database",
    "stop_gateway",
    "kill_worker",
    "restart_valkey",
    "kill_gateway",
    "cut_callers",
    "kill_worker",
    "restart_database",
    "stop_gateway",
    "kill_gateway",
    "kill_first_worker",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="See whether any call gets lost.")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two events")
    parser.add_argument("--logs", type=Path, help="a folder for what the processes write; a temporary one without it")
    parser.add_argument("--events", nargs="+", default=list(EVENTS))
    arguments = parser.parse_args()

    from tests import services

    services.start()
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    figures = asyncio.run(_run(arguments, services))
    _print(figures)


async def _run(arguments: argparse.Namespace, services: Any) -> dict[str, Any]:
    from benchmarks.chaos.fleet import running_fleet
    from benchmarks.chaos.run import chaos

    with tempfile.TemporaryDirectory(prefix="warmline-chaos-") as temporary:
        folder = arguments.logs or temporary
        successors = sum(event in ("stop_gateway", "kill_gateway") for event in arguments.events)
        async with running_fleet(Path(folder), successors=successors) as fleet:
            return await chaos(
                fleet,
                calls=arguments.calls,
                events=arguments.events,
                pause_seconds=arguments.pause,
                restart_database=lambda: asyncio.to_thread(services.restart_postgres),
                restart_valkey=lambda: asyncio.to_thread(services.restart_valkey),
            )


def _print(figures: dict[str, Any]) -> None:
    print("| after s | what happened | it took s |\n|---|---|---|")
    for event in figures["events"]:
        print(f"| {event['at_seconds']} | {event['name'].replace('_', ' ')} | {event['seconds']} |")
    print("\n| figure | value |\n|---|---|")
    for name, value in figures.items():
        if name != "events":
            print(f"| {name.replace('_', ' ')} | {value} |")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
