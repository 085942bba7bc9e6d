"""A pool on Modal from the dashboard alone: made, rescaled, rolled, tried again and switched off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modal_proto import api_pb2

from provisioning import applying
from provisioning.models import Deployment, Pool
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.modal_server.pools import become_ready, modal_for_pools, state_of
from tests.modal_server.processes import ModalServer
from tests.voice.processes import wait_until
from tests.web.pages import words
from tests.web.test_pools import NEW, as_typed

ON_MODAL = {**NEW, "backend": "modal", "region": "us-east", "gpu": "L4, A10", "min_containers": "0", "snapshots": ""}


@pytest.fixture
def modal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    monkeypatch.setattr("provisioning.models.deployments.FOLLOW_SECONDS", {})
    monkeypatch.setattr(applying, "QUIET_SECONDS", -1.0)
    with modal_for_pools(tmp_path / "modal", monkeypatch) as server:
        yield server


def standing(modal: ModalServer) -> list[str]:
    return sorted(app["name"] for app in modal.running()["apps"] if app["state"] != api_pb2.APP_STATE_STOPPED)


def test_a_pool_on_modal_is_run_from_the_dashboard(
    client_of: Any, acme: Tenant, alice: User, bob: User, modal: ModalServer
) -> None:
    owner, viewer = client_of(alice), client_of(bob)
    # Made: on Modal, in a region, with GPUs.
    assert owner.post("/t/acme/pools/new/", ON_MODAL).status_code == 302
    with enter_tenant(acme.id):
        pool = Pool.objects.get()
    # What was left as it was is as a cascade there needs it.
    assert (pool.cpu_millicores, pool.memory_mib) == (2000, 1536)
    shown = {**ON_MODAL, "cpu_millicores": "2000", "memory_mib": "1536"}
    address = f"/t/acme/pools/{pool.pk}/"
    first = become_ready(pool)
    data = modal.asked("FunctionCreate")[-1]["function_data"]
    gpus = [each["function"]["resources"]["gpu_config"]["gpu_type"] for each in data["ranked_functions"]]
    assert gpus == ["L4", "A10"]
    page = words(owner.get(address).content.decode())
    assert "Modal backend" in page and "L4, A10" in page and "ready calls are taken" in page
    assert "Cascade United States, East Modal ready" in words(viewer.get("/t/acme/pools/").content.decode())

    # Rescaled: live, by numbers and by the hour.
    published = len(modal.asked("AppPublish"))
    owner.post(f"{address}change/", {**shown, "max_containers": "4"})
    hours = {"begins_at": "00:00", "ends_at": "00:00", "min_containers": 1, "buffer_containers": 0}
    always = {"days": list(range(7)), **hours}
    owner.post(f"{address}hours/", as_typed(always))
    applying.apply_pool(acme.id, pool.pk)
    told = modal.asked("FunctionUpdateSchedulingParams")[-1]["settings"]
    assert (told["min_containers"], told["buffer_containers"], told["max_containers"]) == (1, 0, 4)
    assert len(modal.asked("AppPublish")) == published
    assert "Kept warm 1 Every day 00:00–00:00" in words(owner.get(address).content.decode())

    # Rolled to a specification that Modal refuses: the last good one serves on. Tried again, it takes its place.
    modal.inject("AppCreate", "INVALID_ARGUMENT", "Not today.", times=50)
    rolled = owner.post(f"{address}change/", {**shown, "memory_mib": "2048", "max_containers": "4"}, follow=True)
    assert "A new deployment starts beside the old one" in rolled.content.decode()
    applying.apply_pool(acme.id, pool.pk)
    page = words(owner.get(address).content.decode())
    assert "Not today." in page and "Try again" in page and "failed the deployment before it takes the calls" in page
    modal.inject("AppCreate", times=0)
    owner.post(f"{address}switch/", {"action": "again"})
    second = become_ready(pool)
    assert second.name != first.name

    def old_is_stopped() -> bool:
        applying.apply_pool(acme.id, pool.pk)
        return state_of(first) == Deployment.State.STOPPED

    wait_until(old_is_stopped, within_seconds=60, what="the old deployment's stop")
    assert standing(modal) == [second.name]

    # A viewer looks, and that is all.
    page = viewer.get(address).content.decode()
    assert "<form" not in page.partition('id="content"')[2]
    for action in ("change/", "hours/", "switch/"):
        assert viewer.post(address + action, {"action": "off"}).status_code == 403
    assert viewer.get("/t/acme/pools/new/").status_code == viewer.post("/t/acme/pools/new/", NEW).status_code == 403

    # Switched off: nothing is left at Modal.
    owner.post(f"{address}switch/", {"action": "off"})

    def nothing_stands() -> bool:
        applying.apply_pool(acme.id, pool.pk)
        return state_of(second) == Deployment.State.STOPPED

    wait_until(nothing_stands, within_seconds=60, what="the stop")
    assert standing(modal) == []
    assert "off it takes no calls" in words(owner.get(address).content.decode())
    with enter_tenant(acme.id):
        by_alice = AuditEntry.objects.filter(actor=alice, action__startswith="pool.").values_list("action", flat=True)
        assert sorted(by_alice) == ["pool.changed"] * 3 + ["pool.created", "pool.disabled", "pool.tried_again"]
