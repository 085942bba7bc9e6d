"""The states of a deployment: which may follow which, and what happens when two processes want different ones."""

from __future__ import annotations

import itertools

import pytest
from django.db import IntegrityError

from provisioning.backends.contract import Autoscaling, PrimingReport
from provisioning.models import Deployment, WrongState
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.provisioning.factories import build_deployment, build_pool

STEPS = {
    "deploying": lambda deployment: deployment.start_deploying(),
    "priming": lambda deployment: deployment.start_priming(),
    "ready": lambda deployment: deployment.become_ready(PrimingReport()),
    "draining": lambda deployment: deployment.start_draining(),
    "stopped": lambda deployment: deployment.become_stopped(),
    "failed": lambda deployment: deployment.fail("It broke.", permanent=True),
}
ALLOWED = {
    ("pending", "deploying"),
    ("pending", "stopped"),
    ("pending", "failed"),
    ("deploying", "priming"),
    ("deploying", "draining"),
    ("deploying", "failed"),
    ("priming", "ready"),
    ("priming", "draining"),
    ("priming", "failed"),
    ("ready", "draining"),
    ("draining", "ready"),
    ("draining", "stopped"),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Deployment.State.values, STEPS)))
def test_only_these_states_follow_each_other(acme: Tenant, before: str, after: str) -> None:
    deployment = build_deployment(build_pool(acme), ready=False)
    with enter_tenant(acme.id):
        Deployment.objects.filter(pk=deployment.pk).update(state=before)
        deployment.refresh_from_db()
        if (before, after) in ALLOWED:
            STEPS[after](deployment)
            deployment.refresh_from_db()
            assert deployment.state == after
        else:
            with pytest.raises(WrongState):
                STEPS[after](deployment)
            deployment.refresh_from_db()
            assert deployment.state == before


def test_a_process_that_comes_late_does_not_overwrite_the_state(acme: Tenant) -> None:
    deployment = build_deployment(build_pool(acme))
    with enter_tenant(acme.id):
        late = Deployment.objects.get(pk=deployment.pk)
        deployment.start_draining()
        with pytest.raises(WrongState, match="no longer ready"):
            late.start_draining()


def test_a_drained_deployment_can_take_calls_again_until_it_is_stopped(acme: Tenant) -> None:
    deployment = build_deployment(build_pool(acme))
    with enter_tenant(acme.id):
        deployment.start_draining()
        deployment.take_calls_again()
        assert deployment.state == "ready"
        with pytest.raises(WrongState, match="not draining"):
            deployment.take_calls_again()


def test_two_live_deployments_of_one_specification_cannot_be(acme: Tenant) -> None:
    pool = build_pool(acme)
    build_deployment(pool)
    with pytest.raises(IntegrityError, match="one_live_deployment_per_spec"):
        build_deployment(pool)


def test_the_hash_covers_what_needs_a_new_deployment_and_nothing_else(acme: Tenant) -> None:
    pool = build_pool(acme)
    with enter_tenant(acme.id):
        before = pool.spec().spec_hash()
        for field, value in {
            "min_containers": 1,
            "buffer_containers": 1,
            "max_containers": 9,
            "scaledown_window_seconds": 9,
        }.items():
            setattr(pool, field, value)
            assert pool.spec().spec_hash() == before
        seen = {before}
        for field, value in {
            "image": "v2",
            "checkpoint": "other",
            "gpu": "L4, A10",
            "cpu_millicores": 9000,
            "memory_mib": 9000,
            "sessions_per_container": 9,
            "snapshots": True,
            "startup_timeout_seconds": 99,
            "exit_grace_seconds": 99,
            "region": "eu-west",
            "worker": "moshi",
        }.items():
            setattr(pool, field, value)
            assert pool.spec().spec_hash() not in seen, field
            seen.add(pool.spec().spec_hash())


def test_the_name_in_the_backend_is_readable_short_and_its_own(acme: Tenant, rival: Tenant) -> None:
    with enter_tenant(acme.id):
        name = build_pool(acme).spec().name
    with enter_tenant(rival.id):
        other = build_pool(rival).spec().name
    assert name.startswith("development-acme-cascade-local-")
    assert len(name) <= 64 and name != other


def test_failures_in_a_row_are_tried_ever_later(acme: Tenant) -> None:
    deployment = build_deployment(build_pool(acme), ready=False)
    with enter_tenant(acme.id):
        waits = []
        for _ in range(8):
            deployment.try_later("The supervisor is away.")
            assert deployment.retry_at is not None
            waits.append((deployment.retry_at - deployment.created_at).total_seconds())
        assert waits == sorted(waits) and waits[1] > 1.5 * waits[0] and waits[-1] < 400
        assert not deployment.is_due
        assert deployment.problem == "The supervisor is away."
        deployment.start_deploying()
        assert deployment.attempts == 0 and deployment.is_due


def test_scaling_is_remembered_as_told(acme: Tenant) -> None:
    deployment = build_deployment(build_pool(acme))
    with enter_tenant(acme.id):
        assert not deployment.is_scaled_to(Autoscaling())
        deployment.remember_scaling(Autoscaling(min_containers=1))
        deployment.refresh_from_db()
        assert deployment.is_scaled_to(Autoscaling(min_containers=1))
        assert not deployment.is_scaled_to(Autoscaling(min_containers=2))
