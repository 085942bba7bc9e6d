"""One run: calls with audio, and a list of what happens meanwhile; then what the callers and the database say of it."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.db import OperationalError, connection

from benchmarks.chaos.callers import FRAMES_A_SECOND, Caller, Heard, can_be_decoded, speech
from benchmarks.chaos.fleet import CHECKPOINT_SECONDS, Fleet, Restart
from benchmarks.gateway.tenant import PLAN, lift_limits
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.factories import create_tenant
from tests.voice.factories import create_agent, create_deployment
from voice.models import Call
from voice.tickets import issue_ticket

READY_SECONDS = 30.0
WAVE = 10
"""So many calls begin at a time: how many can at once is another measurement."""
SETTLED_SECONDS = 30.0
CUT_SHARE = 5
"""One caller in so many loses the network at a time."""


@dataclasses.dataclass
class Event:
    name: str
    seconds: float = 0.0
    at_seconds: float = 0.0


async def chaos(
    fleet: Fleet,
    *,
    calls: int,
    events: Sequence[str],
    pause_seconds: float,
    restart_database: Restart,
    restart_valkey: Restart,
) -> dict[str, Any]:
    """Hold calls while events happen, one after the other; returns what is printed.

    `events`: names of what the fleet can do, and `restart_database`, `restart_valkey`, `cut_callers`.
    """
    tenant, tickets = await sync_to_async(_prepare)(fleet, calls)
    over = asyncio.Event()
    said = speech(600)
    callers = [Caller(f"/call/{ticket}/api/chat", said, lambda: fleet.addresses) for ticket in tickets]
    tasks = []
    for wave in _waves(callers):
        tasks += [asyncio.create_task(caller.call(over)) for caller in wave]
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.gather(*(caller.is_ready.wait() for caller in wave))

    actions = {
        "kill_worker": lambda: fleet.kill_worker(random.randrange(len(fleet.workers))),
        "kill_first_worker": lambda: fleet.kill_worker(0),
        "hang_worker": lambda: fleet.hang_worker(0),
        "fill_worker": lambda: fleet.fill_worker(0),
        "stop_gateway": fleet.stop_gateway,
        "kill_gateway": lambda: _kill_gateway(fleet, callers),
        "restart_database": restart_database,
        "restart_valkey": restart_valkey,
        "cut_callers": lambda: _cut(callers),
    }
    began, happened = time.monotonic(), []
    for name in events:
        event = Event(name, at_seconds=round(time.monotonic() - began, 1))
        before = time.monotonic()
        await actions[name]()
        event.seconds = round(time.monotonic() - before, 1)
        happened.append(event)
        await asyncio.sleep(pause_seconds)
    over.set()
    await asyncio.gather(*tasks)
    await _settle(tenant, calls)
    rows = await sync_to_async(_rows)(tenant)
    return _figures(happened, [caller.result for caller in callers], rows)


def _waves(callers: Sequence[Caller]) -> Iterator[Sequence[Caller]]:
    for at in range(0, len(callers), WAVE):
        yield callers[at : at + WAVE]


async def _cut(callers: Sequence[Caller]) -> None:
    for caller in random.sample(callers, max(1, len(callers) // CUT_SHARE)):
        caller.cut()
    await asyncio.sleep(0)


async def _kill_gateway(fleet: Fleet, callers: Sequence[Caller]) -> None:
    were_at = {caller: caller.gateway for caller in callers}
    lost = await fleet.kill_gateway()
    for caller, gateway in were_at.items():
        caller.result.kills += gateway == lost


def _prepare(fleet: Fleet, calls: int) -> tuple[Tenant, list[str]]:
    lift_limits()
    name = f"chaos-{secrets.token_hex(4)}"
    tenant = create_tenant(name=name, slug=name, plan=PLAN)
    with enter_tenant(tenant.id):
        agent = create_agent(prompt="mode: echo")
        for (port, _), region in zip(fleet.workers, ("local", "eu-west", "us-east"), strict=True):
            create_deployment(port=port, region=region)
        return tenant, [issue_ticket(agent, max_seconds=900) for _ in range(calls)]


async def _settle(tenant: Tenant, calls: int) -> None:
    """Wait until the end of each call is written."""

    def ended() -> int:
        try:
            with enter_tenant(tenant.id):
                return Call.objects.ended().count()
        except OperationalError:  # this process's connection is from before a restart
            connection.close()
            return 0

    deadline = time.monotonic() + SETTLED_SECONDS
    while time.monotonic() < deadline:
        if await sync_to_async(ended)() >= calls:
            return
        await asyncio.sleep(0.2)


def _rows(tenant: Tenant) -> dict[str, Any]:
    with enter_tenant(tenant.id):
        return {str(call.pk): call for call in Call.objects.all()}


def _figures(events: Sequence[Event], heard: Sequence[Heard], rows: dict[str, Any]) -> dict[str, Any]:
    checkpoint = math.ceil(CHECKPOINT_SECONDS * FRAMES_A_SECOND)
    outside, in_flight, after_a_kill, beyond_speech_ms = 0, 0, 0, 0
    for caller in heard:
        call = rows.get(caller.call_id)
        if call is None:
            outside += caller.sent
            continue
        beyond_speech_ms = max(beyond_speech_ms, call.duration_ms - round(1000 * caller.sent / FRAMES_A_SECOND))
        missing = max(abs(caller.sent - call.audio_in_messages), abs(caller.heard - call.audio_out_messages))
        explained = min(missing, caller.in_flight)
        if caller.kills:
            after_a_kill = max(after_a_kill, math.ceil((missing - explained) / caller.kills))
        else:
            in_flight += explained
            outside += missing - explained
    return {
        "events": [dataclasses.asdict(event) for event in events],
        "calls": len(heard),
        "dropped": sum(bool(caller.dropped) for caller in heard),
        "why_dropped": sorted({caller.dropped for caller in heard if caller.dropped}),
        "ends_not_written": sum((call := rows.get(caller.call_id)) is None or call.is_live for caller in heard),
        "callers_connections_lost": sum(caller.lost_connections for caller in heard),
        "workers_lost_in_calls": sum(call.failovers for call in rows.values()),
        "calls_at_a_killed_gateway": sum(bool(caller.kills) for caller in heard),
        "longest_gap_ms": round(max(caller.longest_gap_ms for caller in heard)),
        "frames_sent": sum(caller.sent for caller in heard),
        "frames_metered": sum(call.audio_in_messages for call in rows.values()),
        "difference_outside_kills": outside,
        "in_flight_when_a_connection_ended": in_flight,
        "most_lost_by_a_kill": after_a_kill,
        "frames_of_a_checkpoint": checkpoint,
        "most_billed_beyond_speech_ms": beyond_speech_ms,
        "undecodable": sum(not can_be_decoded(caller.pages) for caller in heard[:: max(1, len(heard) // 20)]),
    }
