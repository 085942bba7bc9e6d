"""The local backend: a real supervisor process, and real worker processes with a scripted engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from provisioning.backends.contract import (
    AtCapacity,
    BackendUnreachable,
    ContainerReport,
    CredentialsRefused,
    DeploymentRefused,
    DeploymentReport,
    DeploymentSpec,
    DeploymentUnknown,
    SessionUnavailable,
)
from provisioning.backends.local import left_behind
from provisioning.backends.local.backend import LocalBackend
from provisioning.backends.local.deployment import LocalDeployment
from provisioning.backends.local.snapshot import Snapshot
from provisioning.backends.local.supervisor import forget_old_logs
from provisioning.backends.local.workers import Launcher
from tests.provisioning.supervisors import TOKEN, Supervisor, eventually, make_autoscaling, make_spec

TIMEOUT_MS = 15_000


async def until(ask: Callable[[], Awaitable[Any]], *, seconds: float = 10.0) -> Any:
    """Return what `ask` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := await ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)
    return result


def running(report: DeploymentReport) -> list[ContainerReport]:
    return [container for container in report.containers if container.stopped_at is None]


def stopped(report: DeploymentReport) -> list[ContainerReport]:
    return [container for container in report.containers if container.stopped_at is not None]


async def ready_count(backend: LocalBackend, spec: DeploymentSpec) -> int:
    report = await backend.status(spec.ref)
    return sum(container.state == "ready" for container in report.containers)


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
    assert report.containers[0].boot_ms and report.containers[0].boot_ms < 200


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


def is_parent(pid: int) -> bool:
    """Return whether a process is a loaded parent, and not one of its forks, which have its command line."""
    process = Path(f"/proc/{pid}")
    made_by = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
    maker = Path(f"/proc/{made_by}/cmdline").read_text()
    return "zygote" in (process / "cmdline").read_text() and "supervisor" in maker


def variables_of(pid: int) -> set[str]:
    return {variable.partition("=")[0] for variable in Path(f"/proc/{pid}/environ").read_text().split("\0")}


async def snapshot_is(backend: LocalBackend, spec: DeploymentSpec, state: str, *, is_not: bool = False) -> bool:
    return ((await backend.status(spec.ref)).snapshot == state) != is_not


async def with_stopped(backend: LocalBackend, spec: DeploymentSpec) -> DeploymentReport | None:
    report = await backend.status(spec.ref)
    return report if stopped(report) else None


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


async def has_ready(backend: LocalBackend, spec: DeploymentSpec, count: int) -> bool:
    return await ready_count(backend, spec) == count


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


# --- failure ---------------------------------------------------------------------------------------------------------
async def test_a_crashed_container_is_reported_and_replaced(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    await until(lambda: has_ready(backend, spec, 1))
    (before,) = (await backend.status(spec.ref)).containers
    (pid,) = supervisor.worker_pids()
    os.kill(pid, signal.SIGSEGV)
    report = await until(lambda: with_stopped(backend, spec))
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


async def no_workers(supervisor: Supervisor) -> bool:
    return supervisor.worker_pids() == []


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
    report = await backend.prime(spec.ref, timeout_seconds=20)
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


# --- the supervisor itself -------------------------------------------------------------------------------------------
async def test_without_the_token_nothing_is_told_or_done(supervisor: Supervisor) -> None:
    async with supervisor.backend(token="guessed") as stranger:
        with pytest.raises(CredentialsRefused):
            await stranger.deployments()
        with pytest.raises(CredentialsRefused):
            await stranger.deploy(make_spec(), make_autoscaling(min_containers=1))
    assert supervisor.worker_pids() == []


async def test_a_request_of_the_wrong_form_is_answered_with_a_sentence(supervisor: Supervisor) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for body in (b"not json", b"[]", b'{"spec": {"nonsense": 1}, "autoscaling": {}}'):
            async with client.put(f"{supervisor.url}/deployments/x", data=body) as answer:
                assert answer.status == 400
                assert "not of its form" in (await answer.json())["sentence"]


async def test_limits_must_be_whole_numbers(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(max_containers=3))
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for wrong in ("two", 1.5, -1, True, None):
            document = {"max_containers": wrong}
            async with client.patch(f"{supervisor.url}/deployments/{spec.name}", json=document) as answer:
                assert answer.status == 400
    report = await backend.status(spec.ref)
    assert report.autoscaling and report.autoscaling.max_containers == 3


async def test_a_log_that_grows_without_end_is_emptied(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    await until(lambda: has_ready(backend, spec, 1))
    (container,) = (await backend.status(spec.ref)).containers
    log = supervisor.folder / "logs" / "containers" / spec.name / f"{container.name}.log"
    os.truncate(log, 20 << 20)
    await asyncio.to_thread(eventually, lambda: log.stat().st_size < 1 << 20)


def test_logs_of_long_ago_are_forgotten_when_a_supervisor_starts(tmp_path: Path) -> None:
    old, new = (tmp_path / name / "cascade-1.log" for name in ("old", "new"))
    for log in (old, new):
        log.parent.mkdir()
        log.write_text("said something")
    month_ago = time.time() - 30 * 24 * 3600
    os.utime(old, (month_ago, month_ago))
    forget_old_logs(tmp_path)
    assert not old.parent.exists() and new.exists()


async def test_a_supervisor_that_is_away_is_named(unused_tcp_port: int) -> None:
    async with LocalBackend(f"http://127.0.0.1:{unused_tcp_port}", "x") as backend:
        with pytest.raises(BackendUnreachable, match="is it running"):
            await backend.deployments()


@pytest.mark.parametrize("snapshots", [False, True])
async def test_a_terminated_supervisor_stops_its_workers(supervisor: Supervisor, snapshots: bool) -> None:
    spec = make_spec(snapshots=snapshots)
    async with supervisor.backend() as backend:
        await backend.deploy(spec, make_autoscaling(min_containers=2))
        await until(lambda: has_ready(backend, spec, 2))
    assert supervisor.worker_pids()
    assert supervisor.stop() == 0
    assert supervisor.worker_pids() == []


@pytest.mark.parametrize("snapshots", [False, True])
async def test_a_killed_supervisor_leaves_no_orphan(supervisor: Supervisor, snapshots: bool) -> None:
    spec = make_spec(snapshots=snapshots)
    async with supervisor.backend() as backend:
        await backend.deploy(spec, make_autoscaling(min_containers=2))
        await until(lambda: has_ready(backend, spec, 2))
    assert len(supervisor.worker_pids()) == (3 if snapshots else 2)
    supervisor.stop(signal.SIGKILL)
    eventually(lambda: supervisor.worker_pids() == [])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_after_a_restart_a_supervisor_runs_what_it_ran_before(
    supervisor: Supervisor, how: signal.Signals
) -> None:
    kept, given_up = make_spec(), make_spec(region="elsewhere")
    limits = make_autoscaling(min_containers=1)
    async with supervisor.backend() as backend:
        for spec in (kept, given_up):
            await backend.deploy(spec, make_autoscaling())
        await backend.scale(kept.ref, limits)
        await backend.stop(given_up.ref)
    supervisor.stop(how)
    successor = Supervisor(supervisor.folder)
    try:
        async with successor.backend() as backend:
            assert list(await backend.deployments()) == [kept.ref]
            await backend.start_session(kept.ref, timeout_ms=TIMEOUT_MS)
            assert (await backend.status(kept.ref)).autoscaling == limits
    finally:
        successor.stop()


async def test_a_damaged_memory_is_left_out_and_said(supervisor: Supervisor) -> None:
    supervisor.stop()
    (supervisor.folder / "deployments.json").write_text('[{"spec": {"from": "another version"}}]')
    successor = Supervisor(supervisor.folder)
    try:
        async with successor.backend() as backend:
            assert list(await backend.deployments()) == []
        assert "must be asked for anew" in successor.log()
    finally:
        successor.stop()


def test_a_supervisor_whose_port_is_taken_says_so(tmp_path: Path, supervisor: Supervisor) -> None:
    with pytest.raises(AssertionError, match="cannot listen on 127.0.0.1:"):
        Supervisor(tmp_path, port=supervisor.port)


async def test_what_was_left_behind_all_the_same_is_ended_by_the_next_supervisor(supervisor: Supervisor) -> None:
    spec = make_spec(snapshots=True)
    async with supervisor.backend() as backend:
        await backend.deploy(spec, make_autoscaling(min_containers=1))
        await until(lambda: has_ready(backend, spec, 1))
    os.kill(guard_of(supervisor), signal.SIGKILL)
    supervisor.stop(signal.SIGKILL)
    assert supervisor.worker_pids()
    successor = Supervisor(supervisor.folder)
    try:
        assert supervisor.worker_pids() == []
        assert "of an earlier supervisor were ended" in successor.log()
    finally:
        successor.stop()


def guard_of(supervisor: Supervisor) -> int:
    """Return the process that waits for the supervisor's end."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_text()
            if left_behind.__name__ in line and str(supervisor.folder) in line:
                return int(process.name)
    raise AssertionError("the supervisor has no guard")


async def test_two_supervisors_do_not_share_a_folder(supervisor: Supervisor) -> None:
    with pytest.raises(AssertionError, match="Another local supervisor already runs"):
        Supervisor(supervisor.folder)


async def test_workers_are_not_told_the_platforms_secrets(backend: LocalBackend, supervisor: Supervisor) -> None:
    spec = make_spec()
    await backend.deploy(spec, make_autoscaling(min_containers=1))
    await until(lambda: has_ready(backend, spec, 1))
    (pid,) = supervisor.worker_pids()
    assert not variables_of(pid) & {
        "DATABASE_URL",
        "DATABASE_OWNER_URL",
        "WARMLINE_SECRET_KEY",
        "WARMLINE_CONTENT_KEY",
        "LOCAL_SUPERVISOR_TOKEN",
    }
