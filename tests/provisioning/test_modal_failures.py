"""What Modal refuses: each a sentence that says who can mend it, tried again where that helps, and nothing left behind.

All of it is injected at the RPC, while a deployment serves that is to serve on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone
from modal_proto import api_pb2

from provisioning import applying
from provisioning.backends import make_backend
from provisioning.backends.contract import QuotaReached, SessionUnavailable
from provisioning.backends.modal.problems import Throttled
from provisioning.models import Deployment, Pool
from provisioning.pools import change_pool, create_pool
from provisioning.reconciling import reconcile
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.modal_server.pools import become_ready, modal_for_pools, state_of, wanted
from tests.modal_server.processes import ModalServer


@dataclasses.dataclass(frozen=True)
class Failure:
    """What goes wrong when, and what is told of it."""

    call: str
    status: str
    message: str
    sentence: str
    passes: bool = False
    """It is tried again, and the deployment waits for that."""
    injected: dict[str, Any] = dataclasses.field(default_factory=dict)
    change: dict[str, Any] = dataclasses.field(default_factory=dict)


FAILURES = {
    "bad credentials": Failure(
        "AppGetOrCreate", "UNAUTHENTICATED", "Token is invalid.", "Modal refuses the credentials: Token is invalid."
    ),
    "a quota": Failure(
        "AppCreate",
        "RESOURCE_EXHAUSTED",
        "At most 200 deployed Apps.",
        "The Modal workspace is at a limit: At most 200 deployed Apps.",
        passes=True,
    ),
    "throttling": Failure(
        "AppCreate",
        "RESOURCE_EXHAUSTED",
        "Too many requests.",
        "Modal takes no more requests just now, and is asked again: Too many requests.",
        passes=True,
        injected={"retry_after_seconds": 5.0},
    ),
    "an unknown GPU": Failure(
        "FunctionCreate",
        "INVALID_ARGUMENT",
        "Unknown GPU type H900.",
        "Modal refuses this GPU, choose another for the pool: Unknown GPU type H900.",
    ),
    "a setting that Modal does not take": Failure(
        "FunctionCreate", "INVALID_ARGUMENT", "Port 8000 is taken.", "Modal refuses these settings: Port 8000 is taken."
    ),
    "a stopped workspace": Failure(
        "AppCreate",
        "PERMISSION_DENIED",
        "Workspace acme is disabled.",
        "The Modal workspace is stopped, and pools come back once it runs again; see its page on Modal: "
        "Workspace acme is disabled.",
        passes=True,
    ),
    "a spend limit": Failure(
        "AppPublish",
        "FAILED_PRECONDITION",
        "Workspace spend limit reached.",
        "The Modal workspace is stopped, and pools come back once it runs again; see its page on Modal: "
        "Workspace spend limit reached.",
        passes=True,
    ),
    "an outage": Failure("AppPublish", "INTERNAL", "Oops.", "Modal does not answer: Oops.", passes=True),
    "an image that nobody published": Failure(
        "",
        "",
        "",
        "The workers' image mine:1 is not in the workspace: `manage.py build_images` publishes it.",
        change={"image": "mine:1"},
    ),
    "weights that nobody fetched": Failure(
        "",
        "",
        "",
        "The weights mine/own are not on the volume: "
        "`manage.py fetch_weights --worker cascade --checkpoint mine/own` stores them.",
        change={"checkpoint": "mine/own"},
    ),
}


@pytest.fixture
def modal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    monkeypatch.setenv("MODAL_MAX_THROTTLE_WAIT", "2")
    monkeypatch.setattr("provisioning.models.deployments.FOLLOW_SECONDS", {})
    with modal_for_pools(tmp_path / "modal", monkeypatch) as server:
        yield server


def served(acme: Tenant) -> tuple[Pool, Deployment]:
    with enter_tenant(acme.id):
        pool = create_pool(actor=None, backend="modal", region="us-east", snapshots=False)
    return pool, become_ready(pool)


def change(pool: Pool, **changes: Any) -> None:
    with enter_tenant(pool.tenant_id):
        change_pool(pool=Pool.objects.get(pk=pool.pk), actor=None, **changes)


def standing(modal: ModalServer) -> list[str]:
    return [app["name"] for app in modal.running()["apps"] if app["state"] != api_pb2.APP_STATE_STOPPED]


@async_to_sync
async def take_a_place(deployment: Deployment) -> str:
    async with make_backend("modal") as backend:
        session = await backend.start_session(deployment.ref, timeout_ms=20_000)
        await backend.end_session(deployment.ref, session.ref)
        return session.ref


def test_each_failure_is_told_and_what_served_before_serves_on(acme: Tenant, modal: ModalServer) -> None:
    pool, good = served(acme)
    original = {"memory_mib": pool.memory_mib, "image": "", "checkpoint": ""}
    for number, (name, failure) in enumerate(FAILURES.items()):
        if failure.call:
            modal.inject(failure.call, failure.status, failure.message, times=50, **failure.injected)
        change(pool, **(failure.change or {"memory_mib": 4096 + number}))
        applying.apply_pool(pool.tenant_id, pool.id)
        modal.inject(failure.call or "AppCreate", times=0)
        bad = wanted(pool)
        assert bad is not None and bad.problem == failure.sentence, name
        expected = Deployment.State.DEPLOYING if failure.passes else Deployment.State.FAILED
        assert bad.state == expected and bad.problem_is_permanent is not failure.passes, name
        assert (bad.retry_at is not None and bad.retry_at > timezone.now()) is failure.passes, name
        assert state_of(good) == Deployment.State.READY and take_a_place(good), name
        if not failure.passes:
            assert standing(modal) == [good.name], name
            asked = len(modal.asked())
            applying.apply_pool(pool.tenant_id, pool.id)
            tried = [each["call"] for each in modal.asked()[asked:]]
            assert "AppCreate" not in tried and "ImageGetByTag" not in tried, f"{name} is tried in vain"
        change(pool, **original)
        applying.apply_pool(pool.tenant_id, pool.id)
        reconcile()
        assert standing(modal) == [good.name], name
        assert wanted(pool) == good and state_of(good) == Deployment.State.READY, name

    modal.inject("sessions/start", "403", times=1)
    with pytest.raises(SessionUnavailable, match="Modal gave no session: .*403"):
        take_a_place(good)


def test_what_passes_is_waited_for_while_there_is_time_and_tried_again_later(acme: Tenant, modal: ModalServer) -> None:
    pool, good = served(acme)

    @async_to_sync
    async def status() -> str:
        async with make_backend("modal") as backend:
            return (await backend.status(good.ref)).ref.name

    modal.inject("TaskList", "RESOURCE_EXHAUSTED", "Slow down.", times=2, retry_after_seconds=0.1)
    assert status() == good.name
    modal.inject("TaskList", "RESOURCE_EXHAUSTED", "Slow down.", times=1000, retry_after_seconds=0.5)
    with pytest.raises(Throttled, match="asked again: Slow down"):
        status()
    modal.inject("TaskList", "RESOURCE_EXHAUSTED", "100 containers at most.", times=1)
    with pytest.raises(QuotaReached, match="at a limit: 100 containers"):
        status()

    modal.inject("AppCreate", "RESOURCE_EXHAUSTED", "At most 10 GPUs.")
    change(pool, memory_mib=4096)
    applying.apply_pool(pool.tenant_id, pool.id)
    waiting = wanted(pool)
    assert waiting is not None and waiting.state == Deployment.State.DEPLOYING
    with enter_tenant(acme.id):
        Deployment.objects.filter(pk=waiting.pk).update(retry_at=timezone.now())
    new = become_ready(pool)
    assert new.pk == waiting.pk and new.problem == ""
    applying.apply_pool(pool.tenant_id, pool.id)
    assert state_of(good) == Deployment.State.DRAINING
