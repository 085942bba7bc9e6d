"""The supervisor's process: whom it obeys, how it ends and comes back, and the files it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from provisioning.backends.contract import (
    BackendUnreachable,
    CredentialsRefused,
)
from provisioning.backends.local import left_behind
from provisioning.backends.local.backend import LocalBackend
from provisioning.backends.local.supervisor import forget_old_logs
from tests.provisioning.supervisors import (
    TIMEOUT_MS,
    TOKEN,
    Supervisor,
    eventually,
    has_ready,
    make_autoscaling,
    make_spec,
    until,
)


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
    left = set(supervisor.worker_pids())
    assert left
    successor = Supervisor(supervisor.folder)
    try:
        assert not left & set(supervisor.worker_pids())
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


def variables_of(pid: int) -> set[str]:
    return {variable.partition("=")[0] for variable in Path(f"/proc/{pid}/environ").read_text().split("\0")}
