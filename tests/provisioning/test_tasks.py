"""What Celery is given to do for pools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app
from kombu.transport.base import StdChannel

from provisioning import applying, tasks
from provisioning.models import Deployment, Pool
from provisioning.pools import create_pool
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.provisioning.factories import build_pool
from tests.provisioning.supervisors import Supervisor

QUEUE = "celery"


@pytest.fixture
def broker() -> Iterator[StdChannel]:
    """The broker, with nothing queued."""
    with current_app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queue_purge(QUEUE)
        yield channel
        channel.queue_purge(QUEUE)


def queued(broker: StdChannel) -> list[tuple[str, dict[str, Any]]]:
    """Return (task, its arguments) of what is queued, oldest first."""
    found = []
    while (message := broker.basic_get(QUEUE)) is not None:
        broker.basic_ack(message.delivery_tag)
        found.append((message.headers["task"], json.loads(message.body)[1]))
    return found


def test_beat_names_tasks_that_there_are() -> None:
    assert {entry["task"] for entry in tasks.BEAT_SCHEDULE.values()} <= set(current_app.tasks)


def test_a_new_pool_is_applied_once_its_row_stands(broker: StdChannel, acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.pk):
        pool = create_pool(actor=alice)
        assert queued(broker) == []
    assert queued(broker) == [("provisioning.apply_pool", {"tenant_id": str(acme.pk), "pool_id": str(pool.pk)})]


def test_reconcile_queues_what_takes_its_time(broker: StdChannel, acme: Tenant) -> None:
    pool = build_pool(acme)
    tasks.reconcile()
    assert queued(broker) == [("provisioning.apply_pool", {"tenant_id": str(acme.pk), "pool_id": str(pool.pk)})]


def test_a_pool_goes_from_its_task_to_ready_and_when_it_is_disabled_to_stopped(
    acme: Tenant, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "QUIET_SECONDS", -1.0)
    pool = build_pool(acme, min_containers=1)
    ids = {"tenant_id": str(acme.pk), "pool_id": str(pool.pk)}
    tasks.apply_pool(**ids)
    with enter_tenant(acme.pk):
        assert Deployment.objects.ready().exists()
        Pool.objects.update(is_enabled=False)
    tasks.reconcile()
    with enter_tenant(acme.pk):
        assert Deployment.objects.get().state == "stopped"
    assert supervisor.worker_pids() == []
    assert tasks.settle_containers() == 0
