"""Pools on Modal from wish to standing App: snapshots given up, drift and orphans mended, a deploy that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modal_proto import api_pb2

from provisioning import applying
from provisioning.models import Deployment, Pool
from provisioning.pools import change_pool, create_pool, try_again
from provisioning.reconciling import reconcile
from tenants.models import AuditEntry, Tenant
from tenants.scope import enter_tenant
from tests.gpu_workers.worker_processes import ROOT
from tests.modal_server.pools import become_ready, modal_for_pools, state_of
from tests.modal_server.processes import ModalServer
from tests.voice.processes import wait_until


@pytest.fixture
def modal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    monkeypatch.setattr("provisioning.models.deployments.FOLLOW_SECONDS", {})
    with modal_for_pools(tmp_path / "modal", monkeypatch) as server:
        yield server


def pool_of(tenant: Tenant, **fields: Any) -> Pool:
    with enter_tenant(tenant.id):
        return create_pool(actor=None, backend="modal", region="us-east", **{"snapshots": False, **fields})


def trail(tenant: Tenant, action: str) -> list[dict[str, Any]]:
    with enter_tenant(tenant.id):
        return [entry.details for entry in AuditEntry.objects.filter(action=action)]


def standing_apps(modal: ModalServer) -> list[dict[str, Any]]:
    return [app for app in modal.running()["apps"] if app["state"] != api_pb2.APP_STATE_STOPPED]


def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_where_no_container_can_be_restored_the_pool_goes_on_without_snapshots(
    acme: Tenant, modal: ModalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "MOST_COLD_BOOTS", 2)
    modal.change(failing_restores=1000)
    pool = pool_of(acme, snapshots=True)
    deployment = become_ready(pool)
    assert deployment.spec["snapshots"] is False
    with enter_tenant(acme.id):
        pool.refresh_from_db()
        assert pool.snapshots and pool.snapshots_given_up_at is not None
    ((boots,),) = [entry.values() for entry in trail(acme, "pool.snapshots_given_up")]
    assert set(boots) == {"cold"} and len(boots) >= 2

    modal.change(failing_restores=0)
    with enter_tenant(acme.id):
        try_again(pool=pool, actor=None)
    again = become_ready(pool)
    assert again.spec["snapshots"] is True and again.priming["boots"][-1] == "restored"


def test_limits_that_somebody_else_changed_are_set_again(acme: Tenant, modal: ModalServer) -> None:
    import asyncio

    import modal as sdk

    pool = pool_of(acme, max_containers=2)
    deployment = become_ready(pool)
    server = sdk.Server.from_name(
        deployment.name, "worker", client=sdk.Client.from_credentials(modal.token_id, modal.token_secret)
    )
    asyncio.run(server.autoscaler.update.aio(max_containers=9, min_containers=1))
    assert "max_containers is 9, and is to be 2" in manage("reconcile", "--dry-run").stdout
    assert server.autoscaler.settings().max_containers == 9
    reconcile()
    settings = server.autoscaler.settings()
    assert (settings.min_containers, settings.max_containers) == (0, 2)
    (details,) = trail(acme, "deployment.scaling_mended")
    assert details["found"]["max_containers"] == 9
    assert json.loads(manage("reconcile", "--dry-run", "--json").stdout) == []


def test_what_no_row_wants_is_stopped_and_what_is_not_ours_is_left_alone(acme: Tenant, modal: ModalServer) -> None:
    import modal as sdk

    deployment = become_ready(pool_of(acme))
    client = sdk.Client.from_credentials(modal.token_id, modal.token_secret)
    prefix = deployment.name.split("-")[0]
    with enter_tenant(acme.id):
        row = Deployment.objects.get()
    ours = sdk.App(f"{prefix}-left-over", tags={**row.specification.tags, "spec": "of-before"})
    theirs = sdk.App(f"{prefix}-by-hand", tags={"team": "research"})
    for app in (ours, theirs):
        app.deploy(client=client)
    reconcile()
    assert {app["name"] for app in standing_apps(modal)} == {deployment.name, f"{prefix}-by-hand"}
    assert len(trail(acme, "deployment.orphan_stopped")) == 1


def test_an_app_that_was_stopped_by_hand_is_brought_back(acme: Tenant, modal: ModalServer) -> None:
    import modal as sdk

    deployment = become_ready(pool_of(acme))
    client = sdk.Client.from_credentials(modal.token_id, modal.token_secret)
    sdk.App.lookup(deployment.name, client=client).stop(client=client)
    assert "is lost" in manage("reconcile", "--dry-run").stdout
    reconcile()
    assert [app["name"] for app in standing_apps(modal)] == [deployment.name]
    assert len(trail(acme, "deployment.brought_back")) == 1


def test_a_process_that_is_killed_in_the_middle_of_a_deploy_leaves_one_app_in_the_end(
    acme: Tenant, modal: ModalServer
) -> None:
    modal.inject("AppPublish", delay_seconds=60, times=1)
    arguments = ["provision", "--tenant", "acme", "--worker", "cascade", "--no-snapshots"]
    killed = subprocess.Popen(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: modal.asked("AppPublish"), within_seconds=60, what="the middle of the deploy")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [app["deploys"] for app in standing_apps(modal)] == [0]
    with enter_tenant(acme.id):
        pool = Pool.objects.get()
        assert pool.deployments.get().state == Deployment.State.DEPLOYING
    for tenant_id, pool_id in reconcile():
        applying.apply_pool(tenant_id, pool_id)
    deployment = become_ready(pool)
    assert [(app["name"], app["deploys"]) for app in standing_apps(modal)] == [(deployment.name, 1)]


def test_the_commands_provision_list_change_and_stop(acme: Tenant, modal: ModalServer) -> None:
    arguments = ["provision", "--tenant", "acme", "--worker", "cascade", "--sessions-per-container", "2", "--json"]
    first = manage(*arguments)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert (document["state"], document["region"], document["first_boots"]) == (
        "ready",
        "us-east",
        ["cold", "restored"],
    )
    assert "deploying" in first.stderr or "priming" in first.stderr

    published = len(modal.asked("AppPublish"))
    again = json.loads(manage(*arguments).stdout)
    assert again["name"] == document["name"] and len(modal.asked("AppPublish")) == published

    with enter_tenant(acme.id):
        always = {"days": list(range(7)), "begins_at": "00:00", "ends_at": "00:00", "min_containers": 0}
        change_pool(pool=Pool.objects.get(), actor=None, max_containers=3, warm_hours=[always])
    (listed,) = json.loads(manage("deployments", "--json").stdout)
    assert listed["desired_autoscaling"]["max_containers"] == 3
    assert listed["actual_autoscaling"]["max_containers"] == 2
    kept = {**always, "buffer_containers": 0}
    assert listed["warm_hours"] == {"time_zone": "UTC", "windows": [kept], "now": kept, "next_change": None}
    assert "max 3 (is 2)" in manage("deployments").stdout

    unknown = manage("provision", "--tenant", "acme", "--worker", "moshi", "--gpu", "H900")
    assert unknown.returncode == 1 and "H900 is not a known GPU" in unknown.stderr
    nobody = manage("provision", "--tenant", "nobody", "--worker", "cascade")
    assert nobody.returncode == 1 and "There is no tenant 'nobody'" in nobody.stderr

    none = manage("provision", "--tenant", "acme", "--worker", "moshi", "--off")
    assert none.returncode == 1 and "Acme has no pool of moshi in us-east." in none.stderr
    off = manage("provision", "--tenant", "acme", "--worker", "cascade", "--off")
    assert off.returncode == 0 and "nothing of it stands" in off.stdout, off.stderr
    assert standing_apps(modal) == []


def test_a_missing_image_is_told_and_the_last_good_deployment_serves_on(acme: Tenant, modal: ModalServer) -> None:
    pool = pool_of(acme)
    good = become_ready(pool)
    with enter_tenant(acme.id):
        change_pool(pool=Pool.objects.get(), actor=None, image="warmline-cascade:none")
    applying.apply_pool(pool.tenant_id, pool.id)
    with enter_tenant(acme.id):
        bad = Deployment.objects.exclude(pk=good.pk).get()
    assert bad.state == Deployment.State.FAILED and "build_images" in bad.problem
    assert state_of(good) == Deployment.State.READY
    assert [app["name"] for app in standing_apps(modal)] == [good.name]


def test_beat_looks_for_orphans_at_modal_once_a_minute(acme: Tenant, modal: ModalServer) -> None:
    become_ready(pool_of(acme))
    reconcile(spares_backends=True)
    asked = len(modal.asked("AppList"))
    reconcile(spares_backends=True)
    assert len(modal.asked("AppList")) == asked
    reconcile()
    assert len(modal.asked("AppList")) == asked + 1
