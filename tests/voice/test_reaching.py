"""Finding a worker while the database is away: the place that a call has needs no asking."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from config.pool import gateway_pool
from gpu_workers.protocol import Kind, Start
from provisioning.backends import BACKENDS, OpenBackends
from provisioning.placing import Place
from tests.voice.processes import scripted_worker
from voice.held import HeldSession
from voice.ongoing import OngoingCall
from voice.options import Options
from voice.reaching import reached_worker
from voice.sockets import WorkerUnavailable


@pytest.fixture
async def backends(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenBackends]:
    monkeypatch.setitem(BACKENDS, "scripted", "tests.voice.scripted_backend.ScriptedBackend")
    async with OpenBackends() as opened:
        yield opened


@contextlib.asynccontextmanager
async def no_database() -> AsyncIterator[AsyncConnectionPool[Any]]:
    pool = gateway_pool("postgresql://nobody@127.0.0.1:1/nothing")
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        await pool.close()


async def reach(pool: Any, backends: OpenBackends, call: OngoingCall, again: HeldSession | None) -> bytes:
    options = dataclasses.replace(Options.from_environment(), database_seconds=0.3)
    start = Start(call_id=str(call.call_id))
    async with reached_worker(pool, backends, call, "cascade", start, [], options, again=again) as worker:
        return worker.handshake


def a_call() -> OngoingCall:
    return OngoingCall(call_id=uuid.uuid4(), tenant_id=uuid.uuid4(), epoch=2, began=time.monotonic(), setup_ms=1)


async def test_a_call_goes_back_to_its_place_while_nobody_can_be_asked_for_others(
    backends: OpenBackends, tmp_path: Path
) -> None:
    with scripted_worker(tmp_path) as (port, _, _):
        place = Place(
            uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), f"scripted-{port}", "scripted", "cascade", "local", 0, True
        )
        granted = await (await backends.get("scripted")).start_session(place.ref, timeout_ms=1_000)
        again = HeldSession.at(place, granted, time.monotonic())
        again.last_seen = time.monotonic()
        async with no_database() as pool:
            assert (await reach(pool, backends, a_call(), again))[0] == Kind.HANDSHAKE


async def test_without_a_place_or_a_database_it_is_said_that_nobody_can_be_asked(backends: OpenBackends) -> None:
    async with no_database() as pool:
        with pytest.raises(WorkerUnavailable, match="cannot be asked now"):
            await reach(pool, backends, a_call(), None)
