"""The local backend: a real supervisor process, and real worker processes with a scripted engine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import aiohttp
import pytest

from provisioning.backends.contract import (
    AtCapacity,
    DeploymentSpec,
    SessionUnavailable,
)
from provisioning.backends.local.backend import LocalBackend
from tests.provisioning.supervisors import (
    TIMEOUT_MS,
    Supervisor,
    has_ready,
    is_parent,
    make_autoscaling,
    make_spec,
    ready_count,
    running,
    snapshot_is,
    stopped,
    until,
    with_stopped,
)


# --- booting ---------------------------------------------------------------------------------------------------------
async def test_a_cold_container_starts_when_a_session_is_asked_for(backend: LocalBackend) -> None:
    spec = make_spec()
    report = await backend.deploy(spec, make_autoscaling())
    assert report.containers == ()
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    (container,) = (await backend.status(spec.ref)).containers
    assert (container.state, container.boot, container.sessions) == ("ready", "cold", 1)
    assert granted.container == container.name
    # The wait for the place was the cold start.
    assert container.boot_ms and granted.reserve_ms >= container.boot_ms > 100


async def test_a_restored_container_is_forked_from_the_loaded_parent(backend: LocalBackend) -> None:
    spec = make_spec(snapshots=True)
    await backend.deploy(spec, make_autoscaling())
    await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    report = await backend.status(spec.ref)
    assert [container.boot for container in report.containers] == ["restored"]
    assert report.snapshot == "made"
    assert report.containers[0].boot_ms and report.containers[0].boot_ms < 1000


async def test_the_parents_crash_leaves_its_children_and_it_is_loaded_again(
    backend: LocalBackend, supervisor: Supervisor
) -> None:
    spec = make_spec(snapshots=True)
    await backend.deploy(spec, make_autoscaling(max_containers=3))
    first = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    (parent,) = [pid for pid in supervisor.worker_pids() if is_parent(pid)]
    supervisor.script(hang_at_load="zygote")
    os.kill(parent, signal.SIGKILL)
    await until(lambda: snapshot_is(backend, spec, "made", is_not=True))

    # Meanwhile containers start cold, and what runs goes on.
    await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    report = await backend.status(spec.ref)
    assert sorted(container.boot for container in running(report)) == ["cold", "restored"]
    async with aiohttp.ClientSession() as client, client.ws_connect(first.url, headers=first.headers):
        pass

    supervisor.script()
    for pid in supervisor.worker_pids():
        if is_parent(pid) and pid != parent:
            os.kill(pid, signal.SIGKILL)
    await until(lambda: snapshot_is(backend, spec, "made"))
    await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    assert sorted(each.boot for each in running(await backend.status(spec.ref))) == ["cold", "restored", "restored"]


async def test_a_parents_orphan_is_noticed_when_it_dies(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec(snapshots=True)
    await backend.deploy(spec, make_autoscaling())
    await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    supervisor.script(fail_to_load="zygote")
    (parent,) = [pid for pid in supervisor.worker_pids() if is_parent(pid)]
    (child,) = [pid for pid in supervisor.worker_pids() if not is_parent(pid)]
    os.kill(parent, signal.SIGKILL)
    await until(lambda: snapshot_is(backend, spec, "made", is_not=True))
    os.kill(child, signal.SIGKILL)
    report = await until(lambda: with_stopped(backend, spec))
    assert [container.why for container in stopped(report)] == ["crashed"]


# --- scaling ---------------------------------------------------------------------------------------------------------
async def test_the_minimum_is_always_there_and_max_is_kept(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(min_containers=2, max_containers=2, scaledown_window_seconds=0))
    await until(lambda: has_ready(backend, spec, 2))
    for _ in range(2):
        await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    began = time.monotonic()
    with pytest.raises(AtCapacity, match="taken"):
        await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    assert time.monotonic() - began < 1.0, "refused at once"
    assert len((await backend.status(spec.ref)).containers) == 2


async def test_the_buffer_is_kept_while_there_is_load(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(buffer_containers=1, max_containers=4, scaledown_window_seconds=0))
    assert await ready_count(backend, spec) == 0
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    await until(lambda: has_ready(backend, spec, 2))
    await backend.end_session(spec.ref, granted.ref)
    await until(lambda: has_ready(backend, spec, 0))


async def test_idle_containers_are_stopped_after_the_window_and_busy_ones_never(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(scaledown_window_seconds=1))
    kept = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS, idle_timeout_seconds=60)
    ended = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    await backend.end_session(spec.ref, ended.ref)
    report = await until(lambda: with_stopped(backend, spec))
    (container,) = stopped(report)
    assert (container.name, container.why, container.exit_code) == (ended.container, "scaledown", 0)
    assert container.ready_at and container.stopped_at
    assert (container.stopped_at - container.ready_at).total_seconds() >= 1
    assert [container.name for container in running(report)] == [kept.container]


async def test_limits_are_changed_live(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(min_containers=2))
    await until(lambda: has_ready(backend, spec, 2))
    pool = make_autoscaling(min_containers=0, max_containers=1)
    await backend.scale(spec.ref, pool)
    await until(lambda: has_ready(backend, spec, 1))
    assert (await backend.status(spec.ref)).autoscaling == pool


async def test_sessions_fill_a_container_before_another_starts(backend: LocalBackend) -> None:
    spec = make_spec(sessions_per_container=3)
    await backend.deploy(spec, make_autoscaling(max_containers=3))
    granted = await asyncio.gather(*(backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS) for _ in range(4)))
    places = [session.container for session in granted]
    assert sorted(places.count(name) for name in set(places)) == [1, 3]


async def test_deploying_twice_changes_nothing(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    await until(lambda: has_ready(backend, spec, 1))
    pids = supervisor.worker_pids()
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    assert supervisor.worker_pids() == pids
    assert list(await backend.deployments()) == [spec.ref]


# --- sessions --------------------------------------------------------------------------------------------------------
async def test_a_session_is_let_in_by_its_token_alone(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling())
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await client.ws_connect(granted.url, headers={"Modal-Authorization": "Bearer forged.00"})
        assert refusal.value.status == 401
        async with client.ws_connect(granted.url, headers=granted.headers) as socket:
            await socket.close()


async def test_a_cancelled_wait_leaves_nothing_behind(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    supervisor.script(hang_at_load=True)
    await backend.deploy(spec, make_autoscaling(max_containers=1))
    asking = asyncio.create_task(backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS))
    await until(lambda: is_waiting(backend, spec, 1))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: is_waiting(backend, spec, 0))
    assert (await backend.status(spec.ref)).sessions == 0


async def is_waiting(backend: LocalBackend, spec: DeploymentSpec, count: int) -> bool:
    return (await backend.status(spec.ref)).waiting == count


async def test_a_wait_ends_at_its_limit_with_the_reason(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    supervisor.script(fail_to_load=True)
    await backend.deploy(spec, make_autoscaling())
    began = time.monotonic()
    with pytest.raises(SessionUnavailable, match="The weights are damaged"):
        await backend.start_session(spec.ref, timeout_ms=2_500)
    assert 2.4 < time.monotonic() - began < 4
    assert (await backend.status(spec.ref)).waiting == 0


async def test_a_place_that_nobody_connects_to_is_free_again(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(max_containers=1))
    await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS, idle_timeout_seconds=1)
    await until(lambda: has_sessions(backend, spec, 0))


async def has_sessions(backend: LocalBackend, spec: DeploymentSpec, count: int) -> bool:
    return (await backend.status(spec.ref)).sessions == count


async def test_a_place_is_kept_while_connected_and_free_after_the_worker_forgot_it(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(max_containers=1))
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS, idle_timeout_seconds=2)
    async with aiohttp.ClientSession() as client, client.ws_connect(granted.url, headers=granted.headers):
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            assert (await backend.status(spec.ref)).sessions == 1
            await asyncio.sleep(0.2)
    await until(lambda: has_sessions(backend, spec, 0))


async def test_a_place_given_back_is_granted_again_at_once(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(max_containers=1))
    first = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    async with aiohttp.ClientSession() as client:
        socket = await client.ws_connect(first.url, headers=first.headers)
        # Both ends hang up at the same time; whoever comes next waits for the worker to have let go.
        second, _, _ = await asyncio.gather(
            start_soon(backend, spec),
            backend.end_session(spec.ref, first.ref),
            socket.close(),
        )
        async with client.ws_connect(second.url, headers=second.headers):
            assert second.container == first.container


async def start_soon(backend: LocalBackend, spec: DeploymentSpec) -> Any:
    """Start a session as soon as there is room."""

    async def attempt() -> Any:
        try:
            return await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
        except AtCapacity:
            return None

    return await until(attempt)


async def test_a_session_ends_while_containers_come_and_go(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(max_containers=3))
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    (pid,) = supervisor.worker_pids()
    os.kill(pid, signal.SIGSTOP)  # its end of the session takes its time
    ending = asyncio.create_task(backend.end_session(spec.ref, granted.ref))
    for _ in range(2):
        await backend.status(spec.ref)  # answered after the end has begun
    await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    await ending
    assert "Error handling request" not in supervisor.log()


async def test_fewer_places_than_ordered_are_full_sooner(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec(sessions_per_container=4)
    supervisor.script(places=1)
    await backend.deploy(spec, make_autoscaling(max_containers=2))
    asked = [backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS) for _ in range(2)]
    granted = await asyncio.gather(*asked)
    assert len({session.container for session in granted}) == 2
    began = time.monotonic()
    with pytest.raises(AtCapacity):
        await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    assert time.monotonic() - began < 1.0, "refused at once"


async def test_ending_an_unknown_session_does_nothing(backend: LocalBackend) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling())
    await backend.end_session(spec.ref, "never-was")
