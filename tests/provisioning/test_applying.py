"""From a pool to running workers and back: deploying, rolling over, draining, and failing."""

from __future__ import annotations

import datetime
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from provisioning import applying
from provisioning.applying import apply_pool
from provisioning.models import Deployment
from provisioning.reconciling import reconcile
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.provisioning.applied import (
    actions,
    apply,
    change,
    containers,
    deployments,
    end_session,
    standing,
    start_session,
)
from tests.provisioning.factories import build_pool
from tests.provisioning.supervisors import Supervisor, eventually


@pytest.fixture(autouse=True)
def no_quiet_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is choosing a deployment while it begins to drain in these tests."""
    monkeypatch.setattr(applying, "QUIET_SECONDS", -1.0)


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


def test_warm_hours_begin_and_end_live(acme: Tenant, supervisor: Supervisor) -> None:
    nights = {
        "days": [4],
        "begins_at": "22:00",
        "ends_at": "06:00",
        "min_containers": 2,
        "buffer_containers": 0,
    }
    pool = build_pool(acme, warm_hours=[nights], scaledown_window_seconds=2)
    with enter_tenant(acme.pk):
        Tenant.objects.filter(pk=acme.pk).update(time_zone="America/New_York")
    friday = datetime.datetime(2026, 11, 28, 2, 59, tzinfo=datetime.UTC)  # 21:59 in New York
    minute, night = datetime.timedelta(minutes=1), datetime.timedelta(hours=8)
    assert apply_pool(acme.pk, pool.pk, at=friday)
    eventually(lambda: supervisor.worker_pids() == [])  # the one of priming is idle
    assert apply_pool(acme.pk, pool.pk, at=friday + minute)
    eventually(lambda: len(supervisor.worker_pids()) == 2)
    assert apply_pool(acme.pk, pool.pk, at=friday + minute + night)
    eventually(lambda: supervisor.worker_pids() == [])
    (deployment,) = deployments(pool)
    assert deployment.autoscaling is not None and deployment.autoscaling["min_containers"] == 0
    assert actions(acme) == ["deployment.ready", "deployment.scaled", "deployment.scaled"]


def test_beat_takes_warm_hours_into_account(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme)
    apply(pool)
    always = {"days": list(range(7)), "begins_at": "00:00", "ends_at": "00:00", "min_containers": 1}
    change(pool, warm_hours=[always])
    assert reconcile() == [], "nothing is to be deployed"
    eventually(lambda: len(supervisor.worker_pids()) == 1)


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
    apply(pool)
    assert deployments(pool)[0].state == "draining"
    monkeypatch.setattr(applying, "LONGEST_DRAIN", datetime.timedelta(0))
    reconcile()
    assert deployments(pool)[0].state == "stopped"


def test_one_that_was_given_up_before_it_served_is_made_anew(acme: Tenant, supervisor: Supervisor) -> None:
    pool = build_pool(acme)
    with enter_tenant(acme.pk):
        deployment = Deployment.of_pool(pool)
        deployment.start_deploying()
        deployment.start_draining()
    apply(pool)
    assert deployments(pool)[0].state == "stopped", "and never took calls"
    apply(pool)
    assert [each.state for each in deployments(pool)] == ["stopped", "ready"]


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
    monkeypatch.setattr(applying, "MOST_ATTEMPTS", 1)
    with enter_tenant(acme.pk):
        Deployment.objects.update(retry_at=timezone.now())
    apply(pool)
    (deployment,) = deployments(pool)
    assert (deployment.state, deployment.attempts) == ("deploying", 2), "however long it is away"


def test_a_long_start_is_waited_for_in_turns_with_other_pools(
    acme: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "LONGEST_WAIT_SECONDS", 1.0)
    supervisor.script(hang_at_load=True)
    pool = build_pool(acme, startup_timeout_seconds=60)
    began = time.monotonic()
    apply(pool)
    assert time.monotonic() - began < 10
    (deployment,) = deployments(pool)
    assert (deployment.state, deployment.attempts, deployment.problem) == ("priming", 0, "")
    assert reconcile() == [(acme.pk, pool.pk)], "and again"
