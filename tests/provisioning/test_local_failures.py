"""Workers that crash, hang or never come up, deployments that are stopped: what the local backend makes of it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from provisioning.backends.contract import (
    AtCapacity,
    DeploymentRefused,
    DeploymentReport,
    DeploymentSpec,
    DeploymentUnknown,
)
from provisioning.backends.local import left_behind
from provisioning.backends.local.backend import LocalBackend
from provisioning.backends.local.deployment import LocalDeployment
from provisioning.backends.local.snapshot import Snapshot
from provisioning.backends.local.workers import Launcher
from tests.provisioning.supervisors import (
    TIMEOUT_MS,
    Supervisor,
    has_ready,
    is_parent,
    make_autoscaling,
    make_spec,
    no_workers,
    stopped,
    until,
    with_stopped,
)


async def test_a_crashed_container_is_reported_and_replaced(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    await until(lambda: has_ready(backend, spec, 1))
    (before,) = (await backend.status(spec.ref)).containers
    (pid,) = supervisor.worker_pids()
    os.kill(pid, signal.SIGSEGV)
    report = await until(lambda: with_stopped(backend, spec))
    assert report.sentence == "A worker crashed (exit code -11); it said last: ready"
    await until(lambda: has_ready(backend, spec, 1))
    (crashed,) = stopped(report)
    assert (crashed.name, crashed.why, crashed.exit_code) == (before.name, "crashed", -signal.SIGSEGV)


async def test_a_container_that_does_not_answer_gets_no_new_session(
    backend: LocalBackend, supervisor: Supervisor
) -> None:
    spec = make_spec(sessions_per_container=2)
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    await until(lambda: has_ready(backend, spec, 1))
    (container,) = (await backend.status(spec.ref)).containers
    (pid,) = supervisor.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    # Another one comes up beside it by itself.
    await until(lambda: has_ready(backend, spec, 2))
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    assert granted.container != container.name
    os.kill(pid, signal.SIGCONT)
    await until(lambda: fills_both(backend, spec))


async def fills_both(backend: LocalBackend, spec: DeploymentSpec) -> bool:
    """Return whether there is no place left, after one more session."""
    try:
        await backend.start_session(spec.ref, timeout_ms=1_000, idle_timeout_seconds=60)
    except AtCapacity:
        return (await backend.status(spec.ref)).sessions == 4
    return False


async def test_a_fork_that_hangs_before_it_is_ready_is_ended(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec(snapshots=True, startup_timeout_seconds=2)
    supervisor.script(hang_at_attach="zygote")
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    report = await until(lambda: with_stopped(backend, spec))
    assert stopped(report)[-1].why == "start_timed_out"
    await backend.scale(spec.ref, make_autoscaling())
    await until(lambda: has_only_parents(supervisor))


async def has_only_parents(supervisor: Supervisor) -> bool:
    return [is_parent(pid) for pid in supervisor.worker_pids()] == [True]


@pytest.mark.parametrize("snapshots", [False, True])
async def test_what_a_worker_started_ends_with_it(
    backend: LocalBackend, supervisor: Supervisor, snapshots: bool
) -> None:
    spec = make_spec(snapshots=snapshots)
    supervisor.script(leave_process=True)
    await backend.deploy(spec, make_autoscaling())
    await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    workers = [pid for pid in supervisor.worker_pids() if not is_parent(pid)]
    assert len(workers) == 2
    os.kill(min(workers), signal.SIGKILL)
    await until(lambda: with_stopped(backend, spec))
    assert not set(workers) & set(supervisor.worker_pids())


async def test_a_worker_that_never_comes_up_is_tried_ever_more_rarely(
    backend: LocalBackend, supervisor: Supervisor
) -> None:
    spec = make_spec()
    supervisor.script(fail_to_load=True)
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    report = await until(lambda: with_failures(backend, spec, 4), seconds=30)
    starts = sorted(container.started_at for container in stopped(report))
    pauses = [(later - earlier).total_seconds() for earlier, later in zip(starts, starts[1:], strict=False)]
    assert pauses[-1] > pauses[0] + 0.5
    assert {container.why for container in stopped(report)} == {"start_failed"}
    assert "The weights are damaged" in report.sentence
    log = await backend.read_log(spec.ref, stopped(report)[0].name)
    assert "The weights are damaged" in log
    assert await backend.read_log(spec.ref, "../../supervisor") == ""


async def with_failures(backend: LocalBackend, spec: DeploymentSpec, count: int) -> DeploymentReport | None:
    report = await backend.status(spec.ref)
    return report if len(stopped(report)) >= count else None


async def test_a_worker_that_is_never_ready_is_ended(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec(startup_timeout_seconds=2)
    supervisor.script(hang_at_load=True)
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    report = await until(lambda: with_stopped(backend, spec))
    assert stopped(report)[-1].why == "start_timed_out"
    assert "within 2 s" in report.sentence
    await backend.scale(spec.ref, make_autoscaling())
    await until(lambda: no_workers(supervisor))


async def test_stopping_ends_every_process_and_forgets_the_deployment(
    backend: LocalBackend, supervisor: Supervisor
) -> None:
    spec = make_spec(snapshots=True, exit_grace_seconds=1)
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    async with aiohttp.ClientSession() as client, client.ws_connect(granted.url, headers=granted.headers):
        await backend.stop(spec.ref)
    assert supervisor.worker_pids() == []
    with pytest.raises(DeploymentUnknown):
        await backend.status(spec.ref)
    with pytest.raises(DeploymentUnknown):
        await backend.start_session(spec.ref, timeout_ms=1_000)
    await backend.stop(spec.ref)


async def test_who_stops_a_deployment_and_goes_away_leaves_nothing_running(
    backend: LocalBackend, supervisor: Supervisor
) -> None:
    spec = make_spec(snapshots=True, exit_grace_seconds=1)
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    granted = await backend.start_session(spec.ref, timeout_ms=TIMEOUT_MS)
    async with aiohttp.ClientSession() as client, client.ws_connect(granted.url, headers=granted.headers):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.stop(spec.ref), timeout=0.2)
        await until(lambda: no_workers(supervisor))


async def test_stopping_ends_the_wait_of_those_who_ask_and_forgets_those_who_gave_up(tmp_path: Path) -> None:
    deployment = LocalDeployment(
        make_spec(),
        make_autoscaling(),
        launcher=Launcher("no_such_package", tmp_path, left_behind.VARIABLE, "of a test"),
        folder=tmp_path,
    )
    asking = [asyncio.create_task(deployment.start_session(timeout_ms=5_000, idle_timeout_seconds=5)) for _ in "ab"]
    await asyncio.sleep(0)
    asking[0].cancel()
    await deployment.close(grace_seconds=0)
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError, DeploymentUnknown]


async def test_a_snapshot_that_cannot_be_launched_keeps_nobody_waiting(tmp_path: Path) -> None:
    snapshot = Snapshot(
        Launcher("no_such_package", tmp_path, left_behind.VARIABLE, "of a test"),
        worker="cascade",
        checkpoint="",
        max_sessions=1,
        socket_path=tmp_path / "parent",
        log_path=tmp_path / "no such folder" / "log",
        load_seconds=5,
    )
    try:
        assert not await asyncio.wait_for(snapshot.wait_for_first_load(), timeout=5)
    finally:
        await snapshot.close()


async def test_priming_shows_that_a_container_can_talk(backend: LocalBackend) -> None:
    spec = make_spec(snapshots=True)
    await backend.deploy(spec, make_autoscaling())
    report = await backend.prime(spec, timeout_seconds=20)
    assert report.boots == ("restored",)
    assert (await backend.status(spec.ref)).sessions == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [({"worker": "moshi"}, "no worker of the kind moshi"), ({"gpu": ("L4",)}, "has no GPU")],
)
async def test_what_cannot_run_here_is_refused(backend: LocalBackend, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DeploymentRefused, match=sentence) as refusal:
        await backend.deploy(make_spec(**fields), make_autoscaling())
    assert refusal.value.permanent
