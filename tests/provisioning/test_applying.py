"""From a pool to running workers and back: deploying, rolling over, draining, and mending what was lost."""

from __future__ import annotations

import datetime
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connections
from django.utils import timezone

from provisioning import applying
from provisioning.applying import apply_pool, drain_deployment, stop_deployment
from provisioning.backends import make_backend
from provisioning.backends.contract import GrantedSession
from provisioning.container_logs import read_container_log
from provisioning.locks import locking, only_one
from provisioning.models import Container, Deployment, Pool
from provisioning.reconciling import reconcile
from tenants.models import AuditEntry, Tenant
from tenants.scope import enter_tenant
from tests.provisioning.factories import build_pool
from tests.provisioning.supervisors import TOKEN, Supervisor, eventually, make_autoscaling, make_spec


@pytest.fixture(autouse=True)
def no_quiet_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is choosing a deployment while it begins to drain in these tests."""
    monkeypatch.setattr(applying, "QUIET_SECONDS", -1.0)


def apply(pool: Pool) -> None:
    assert apply_pool(pool.tenant_id, pool.pk)


def change(pool: Pool, **fields: Any) -> None:
    with enter_tenant(pool.tenant_id):
        Pool.objects.filter(pk=pool.pk).update(**fields, changed_at=timezone.now())


def deployments(pool: Pool) -> list[Deployment]:
    """Return a pool's deployments, oldest first."""
    with enter_tenant(pool.tenant_id):
        return list(Deployment.objects.filter(pool=pool).select_related("pool").order_by("created_at"))


def containers(pool: Pool) -> list[Container]:
    with enter_tenant(pool.tenant_id):
        return list(Container.objects.filter(deployment__pool=pool).order_by("started_at"))


def actions(tenant: Tenant) -> list[str]:
    with enter_tenant(tenant.pk):
        entries = AuditEntry.objects.filter(action__startswith="deployment.").order_by("occurred_at")
        return list(entries.values_list("action", flat=True))


@async_to_sync
async def start_session(deployment: Deployment) -> GrantedSession:
    async with make_backend("local") as backend:
        return await backend.start_session(deployment.ref, timeout_ms=15_000, idle_timeout_seconds=60)


@async_to_sync
async def end_session(deployment: Deployment, granted: GrantedSession) -> None:
    async with make_backend("local") as backend:
        await backend.end_session(deployment.ref, granted.ref)


@async_to_sync
async def standing() -> list[str]:
    async with make_backend("local") as backend:
        return [ref.name for ref in await backend.deployments()]


# --- deploying -------------------------------------------------------------------------------------------------------
def test_a_pool_becomes_ready_with_its_first_boots_noted(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, min_containers=1, snapshots=True)
    apply(pool)
    (deployment,) = deployments(pool)
    assert deployment.state == "ready" and deployment.ready_at
    assert deployment.priming["boots"] == ["restored"]
    assert deployment.is_scaled_to(pool.autoscaling)
    (container,) = containers(pool)
    assert (container.state, container.boot, container.stopped_at) == ("ready", "restored", None)
    assert container.boot_ms is not None
    assert actions(acme) == ["deployment.ready"]


def test_applying_again_does_nothing(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    pids = supervisor.worker_pids()
    apply(pool)
    assert supervisor.worker_pids() == pids
    assert len(deployments(pool)) == 1 and len(containers(pool)) == 1


def test_applying_twice_at_once_deploys_once(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, min_containers=1)
    barrier = threading.Barrier(3)

    def apply_too() -> bool:
        try:
            barrier.wait(10)
            return apply_pool(acme.pk, pool.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda _: apply_too(), range(3)))
    assert any(results)
    assert [deployment.state for deployment in deployments(pool)] == ["ready"]
    assert len(supervisor.worker_pids()) == 1


def test_a_process_that_died_in_the_middle_is_followed_by_the_next(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme)
    with enter_tenant(acme.pk):
        deployment = Deployment.of_pool(pool)
        deployment.start_deploying()
    assert reconcile() == [(acme.pk, pool.pk)], "there is something to deploy"
    apply(pool)
    assert [each.state for each in deployments(pool)] == ["ready"]


def test_a_change_of_limits_is_live(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme)
    apply(pool)
    change(pool, min_containers=2)
    apply(pool)
    eventually(lambda: len(supervisor.worker_pids()) == 2)
    assert len(deployments(pool)) == 1


# --- rolling over ----------------------------------------------------------------------------------------------------
def test_a_new_specification_takes_over_and_the_old_one_drains(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    (old,) = deployments(pool)
    session = start_session(old)

    change(pool, sessions_per_container=3)
    apply(pool)
    old, new = deployments(pool)
    assert (old.state, new.state) == ("draining", "ready")
    apply(pool)
    assert deployments(pool)[0].state == "draining", "its session goes on"
    assert sorted(standing()) == sorted([old.name, new.name])

    end_session(old, session)
    apply(pool)
    assert [each.state for each in deployments(pool)] == ["stopped", "ready"]
    assert standing() == [new.name]
    assert all(container.stopped_at for container in containers(pool) if container.deployment_id == old.pk)
    assert actions(acme) == ["deployment.ready", "deployment.ready", "deployment.draining", "deployment.stopped"]


def test_changing_back_takes_the_old_deployment_into_service_again(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    session = start_session(deployments(pool)[0])
    change(pool, sessions_per_container=3)
    apply(pool)
    change(pool, sessions_per_container=2)
    apply(pool)
    old, new = deployments(pool)
    assert old.state == "ready" and new.state in ("draining", "stopped")
    apply(pool)
    assert standing() == [old.name]
    end_session(old, session)


def test_a_disabled_pool_is_drained_and_stopped(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    change(pool, is_enabled=False)
    apply(pool)
    apply(pool)
    assert [each.state for each in deployments(pool)] == ["stopped"]
    assert standing() == [] and supervisor.worker_pids() == []
    change(pool, is_enabled=True)
    apply(pool)
    assert [each.state for each in deployments(pool)] == ["stopped", "ready"]


def test_a_drain_that_takes_too_long_is_ended(
    acme: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = build_pool(acme, exit_grace_seconds=0)
    apply(pool)
    (deployment,) = deployments(pool)
    start_session(deployment)
    change(pool, is_enabled=False)
    drain_deployment(acme.pk, deployment.pk)
    assert deployments(pool)[0].state == "draining"
    monkeypatch.setattr(applying, "LONGEST_DRAIN", datetime.timedelta(0))
    reconcile()
    assert deployments(pool)[0].state == "stopped"


def test_a_deployment_can_be_stopped_at_once(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    (deployment,) = deployments(pool)
    stop_deployment(acme.pk, deployment.pk)
    assert deployments(pool)[0].state == "stopped" and supervisor.worker_pids() == []
    stop_deployment(acme.pk, deployment.pk)


# --- failure ---------------------------------------------------------------------------------------------------------
def test_what_cannot_be_deployed_fails_with_a_sentence_and_the_old_one_serves_on(
    acme: Tenant, supervisor: Supervisor
) -> None:
    pool = build_pool(acme)
    apply(pool)
    change(pool, gpu="L4")
    apply(pool)
    apply(pool)
    old, new = deployments(pool)
    assert (old.state, new.state) == ("ready", "failed")
    assert "has no GPU" in new.problem and new.problem_is_permanent
    assert standing() == [old.name]
    change(pool, gpu="")
    apply(pool)
    assert [each.state for each in deployments(pool)] == ["ready", "failed"]


def test_a_failed_specification_is_tried_again_once_somebody_asks(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, gpu="L4")
    apply(pool)
    apply(pool)
    assert len(deployments(pool)) == 1
    change(pool)
    apply(pool)
    assert [each.state for each in deployments(pool)] == ["failed", "failed"]


def test_workers_that_do_not_come_up_are_given_up_and_nothing_is_left_behind(
    acme: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "PRIMING_MARGIN_SECONDS", -18.0)
    monkeypatch.setattr(applying, "MOST_ATTEMPTS", 2)
    supervisor.script(fail_to_load=True)
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    (deployment,) = deployments(pool)
    assert (deployment.state, deployment.attempts) == ("priming", 1)
    assert "The weights are damaged" in deployment.problem
    apply(pool)
    assert deployments(pool)[0].attempts == 1, "not before its time"
    with enter_tenant(acme.pk):
        Deployment.objects.update(retry_at=timezone.now())
    apply(pool)
    assert deployments(pool)[0].state == "failed"
    assert standing() == [] and supervisor.worker_pids() == []


def test_a_supervisor_that_is_away_is_noted_and_tried_later(
    acme: Tenant, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "LOCAL_SUPERVISOR_URL", f"http://127.0.0.1:{unused_tcp_port}")
    pool = build_pool(acme)
    apply(pool)
    (deployment,) = deployments(pool)
    assert deployment.state == "deploying" and "is it running" in deployment.problem
    assert not deployment.is_due


# --- reconciling -----------------------------------------------------------------------------------------------------
def test_what_a_supervisor_lost_is_brought_back(
    acme: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    (before,) = containers(pool)
    supervisor.stop(signal.SIGKILL)
    assert reconcile() == []
    assert "cannot be reached" in deployments(pool)[0].problem, "and it stays as it is until the supervisor is back"
    assert containers(pool)[0].stopped_at is None

    eventually(lambda: supervisor.worker_pids() == [])
    successor = Supervisor(supervisor.folder)
    try:
        monkeypatch.setattr(settings, "LOCAL_SUPERVISOR_URL", successor.url)
        reconcile()
        eventually(lambda: reconcile() == [] and running(pool))
        (deployment,) = deployments(pool)
        assert (deployment.state, deployment.problem) == ("ready", "")
        lost, back = containers(pool)
        assert (lost.name, lost.why, lost.stopped_at) == (before.name, "lost", before.seen_at)
        assert back.state == "ready"
        assert "deployment.brought_back" in actions(acme)
    finally:
        successor.stop()


def running(pool: Pool) -> list[Container]:
    return [container for container in containers(pool) if container.state == "ready"]


def test_containers_are_followed_from_start_to_end(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme, scaledown_window_seconds=2)
    apply(pool)
    (deployment,) = deployments(pool)
    session = start_session(deployment)
    reconcile()
    assert [(container.state, container.sessions) for container in containers(pool)] == [("ready", 1)]
    end_session(deployment, session)
    eventually(lambda: reconcile() == [] and containers(pool)[0].stopped_at)
    (container,) = containers(pool)
    assert (container.state, container.why, container.exit_code, container.sessions) == ("stopped", "scaledown", 0, 0)


def test_what_a_container_wrote_can_be_read(
    acme: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    with enter_tenant(acme.pk):
        container = Container.objects.select_related("deployment").get()
        assert container.name in read_container_log(container)
        container.name = "../../supervisor"
        assert read_container_log(container) == ""
        monkeypatch.setattr(settings, "LOCAL_SUPERVISOR_URL", f"http://127.0.0.1:{unused_tcp_port}")
        assert read_container_log(container) == ""


def test_reconcile_names_the_pools_in_which_something_is_to_be_deployed(acme: Tenant, rival: Tenant) -> None:
    wanted = build_pool(acme)
    build_pool(rival, is_enabled=False)
    assert reconcile() == [(acme.pk, wanted.pk)]


def test_a_deployment_that_nobody_wants_is_stopped(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme)
    apply(pool)
    (kept,) = deployments(pool)

    @async_to_sync
    async def deploy_by_hand() -> None:
        async with supervisor.backend() as backend:
            await backend.deploy(make_spec(), make_autoscaling(min_containers=1))

    deploy_by_hand()
    reconcile()
    assert standing() == [kept.name]


def test_one_pools_trouble_does_not_keep_the_others_waiting(
    acme: Tenant, rival: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubled, other = build_pool(acme), build_pool(rival)
    whole = applying.tend_pool

    def tend(tenant_id: Any, pool_id: Any, locks: Any) -> bool:
        if pool_id == troubled.pk:
            raise ZeroDivisionError("a bug")
        return whole(tenant_id, pool_id, locks)

    monkeypatch.setattr(applying, "tend_pool", tend)
    assert reconcile() == [(rival.pk, other.pk)]


def test_the_lock_is_held_by_one_and_let_go() -> None:
    with locking() as mine, locking() as other:
        with only_one(mine, "a test") as is_mine, only_one(other, "a test") as is_others:
            assert is_mine and not is_others
        with only_one(other, "a test") as is_others:
            assert is_others


def test_the_supervisors_token_comes_from_the_settings(supervisor: Supervisor) -> None:
    assert settings.LOCAL_SUPERVISOR_TOKEN == TOKEN
    assert standing() == []
