"""The periodic look at everything: mending what was lost, following containers, stopping what nobody wants."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings

from provisioning import applying
from provisioning.locks import locking, only_one
from provisioning.models import Container, Pool
from provisioning.reconciling import reconcile
from tenants.models import Tenant
from tests.provisioning.applied import (
    actions,
    apply,
    containers,
    deployments,
    end_session,
    standing,
    start_session,
)
from tests.provisioning.factories import build_pool
from tests.provisioning.supervisors import TOKEN, Supervisor, eventually, make_autoscaling, make_spec


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
    (supervisor.folder / "deployments.json").unlink()
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


def test_one_process_reconciles_at_a_time(acme: Tenant) -> None:
    pool = build_pool(acme)
    with locking() as locks, only_one(locks, "reconcile"):
        assert reconcile() == []
    assert reconcile() == [(acme.pk, pool.pk)]


def test_a_supervisor_that_was_restarted_is_found_as_it_was(
    acme: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = build_pool(acme, min_containers=1)
    apply(pool)
    (deployment,) = deployments(pool)
    supervisor.stop(signal.SIGKILL)
    successor = Supervisor(supervisor.folder)
    try:
        monkeypatch.setattr(settings, "LOCAL_SUPERVISOR_URL", successor.url)
        start_session(deployment)  # before anybody has reconciled
        reconcile()
        lost, back = containers(pool)
        assert (lost.why, back.state, back.sessions) == ("lost", "ready", 1)
        assert actions(acme) == ["deployment.ready"]
    finally:
        successor.stop()


def test_a_deployment_that_a_new_installation_does_not_know_is_stopped(acme: Tenant, supervisor: Supervisor) -> None:
    build_pool(acme, is_enabled=False)

    @async_to_sync
    async def deploy_by_hand() -> None:
        async with supervisor.backend() as backend:
            await backend.deploy(make_spec(), make_autoscaling())

    deploy_by_hand()
    reconcile()
    assert standing() == []


def test_the_lock_is_held_by_one_and_let_go() -> None:
    with locking() as mine, locking() as other:
        with only_one(mine, "a test") as is_mine, only_one(other, "a test") as is_others:
            assert is_mine and not is_others
        with only_one(other, "a test") as is_others:
            assert is_others


def test_the_supervisors_token_comes_from_the_settings(supervisor: Supervisor) -> None:
    assert settings.LOCAL_SUPERVISOR_TOKEN == TOKEN
    assert standing() == []
