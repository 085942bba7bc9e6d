"""Pools on the stand-in, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from django.conf import settings

from gpu_workers.images import image_name
from provisioning import applying
from provisioning.models import Deployment, Pool
from tenants.scope import enter_tenant
from tests.modal_server.processes import ModalServer, modal_server
from tests.voice.processes import wait_until


@contextlib.contextmanager
def modal_for_pools(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, workers: Sequence[str] = ("cascade",)
) -> Iterator[ModalServer]:
    """Run the stand-in, with the images of these workers, where the platform looks for Modal."""
    with modal_server(folder, images=[image_name(worker) for worker in workers]) as server:
        look_there(server, monkeypatch)
        yield server


def look_there(server: ModalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the platform, and processes that it starts, look for Modal at a stand-in."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "MODAL_TOKEN_ID", server.token_id)
    monkeypatch.setattr(settings, "MODAL_TOKEN_SECRET", server.token_secret)


def become_ready(pool: Pool, within_seconds: float = 120) -> Deployment:
    """Apply a pool until the deployment of its present specification is ready."""

    def is_ready() -> bool:
        applying.apply_pool(pool.tenant_id, pool.id)
        deployment = wanted(pool)
        assert deployment is None or deployment.state != Deployment.State.FAILED, deployment.problem
        return deployment is not None and deployment.state == Deployment.State.READY

    wait_until(is_ready, within_seconds=within_seconds, what="the deployment")
    deployment = wanted(pool)
    assert deployment is not None
    return deployment


def wanted(pool: Pool) -> Deployment | None:
    """Return the newest deployment of a pool's present specification."""
    with enter_tenant(pool.tenant_id):
        pool = Pool.objects.get(pk=pool.pk)
        return pool.deployments.filter(spec_hash=pool.spec().spec_hash()).order_by("-created_at").first()


def state_of(deployment: Deployment) -> str:
    with enter_tenant(deployment.tenant_id):
        return str(Deployment.objects.get(pk=deployment.pk).state)
