"""The real local supervisor with real workers, for conversations that need every part."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from provisioning import applying
from provisioning.models import Deployment, Pool
from provisioning.pools import create_pool
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice.processes import Process, wait_until

SUPERVISOR_TOKEN = "a-token-of-the-tests"


@contextmanager
def supervisor_with_a_pool(
    tenant: Tenant, folder: Path, monkeypatch: pytest.MonkeyPatch, **checkpoints: Path
) -> Iterator[dict[str, str]]:
    """Run a supervisor with one warm CPU worker for the tenant; yields what a gateway needs to reach it.

    Args:
        checkpoints: further kinds of worker to have one of, and the folders of their weights.
    """
    supervisor = Process(
        [sys.executable, "-m", "provisioning.backends.local.supervisor", "--port", "0", "--state-dir", str(folder)],
        output=folder / "supervisor.log",
        env={"LOCAL_SUPERVISOR_TOKEN": SUPERVISOR_TOKEN},
    )
    try:
        address = f"http://127.0.0.1:{json.loads(supervisor.first_line())['listening']}"
        monkeypatch.setattr(settings, "LOCAL_SUPERVISOR_URL", address)
        monkeypatch.setattr(settings, "LOCAL_SUPERVISOR_TOKEN", SUPERVISOR_TOKEN)
        deploy_pools(tenant, {}, *({"worker": kind, "checkpoint": str(path)} for kind, path in checkpoints.items()))
        yield {"LOCAL_SUPERVISOR_URL": address, "LOCAL_SUPERVISOR_TOKEN": SUPERVISOR_TOKEN}
    finally:
        supervisor.stop(signal.SIGTERM, timeout_seconds=30)


def deploy_pools(tenant: Tenant, *pools: dict[str, Any]) -> None:
    """Make pools with one warm container each, and wait until calls may go there. They come up side by side."""
    with enter_tenant(tenant.id):
        made = [
            create_pool(actor=None, min_containers=1, max_containers=1, sessions_per_container=4, **fields)
            for fields in pools
        ]

    def is_ready(pool: Pool) -> bool:
        applying.apply_pool(tenant.id, pool.id)
        with enter_tenant(tenant.id):
            deployment = Deployment.objects.get(pool=pool)
            assert deployment.state != Deployment.State.FAILED, deployment.problem
            return deployment.state == Deployment.State.READY

    wait_until(lambda: all([is_ready(pool) for pool in made]), within_seconds=120, what="the deployments")
