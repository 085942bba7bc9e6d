"""What `manage.py doctor` looks at on Modal, where it is used: credentials, then what the pools need there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import modal
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import DatabaseError

from provisioning.backends import complete
from provisioning.backends.contract import BackendError, DeploymentSpec
from provisioning.backends.modal.missing import Missing, Need, missing_in
from provisioning.backends.modal.problems import named
from provisioning.backends.modal.workspace import ASK_SECONDS
from provisioning.models import Pool
from provisioning.models.pools import Worker
from tenants.scope import enter_operator
from web.examination import Finding
from web.modal_workspace import open_workspace

CREDENTIALS, WORKERS = "modal credentials", "modal workers"
TOKEN_ADVICE = "`modal token new` makes a token: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET. See docs/modal.md."


def examine_modal() -> Iterator[Finding]:
    """Yield nothing where no credentials are set and no pool runs there."""
    needs = _needs_of_pools()
    if not needs and not settings.MODAL_TOKEN_ID:
        return
    if not settings.MODAL_TOKEN_ID or not settings.MODAL_TOKEN_SECRET:
        yield Finding(CREDENTIALS, "wrong", "Pools are to run on Modal, and no token for it is set.", TOKEN_ADVICE)
        return
    try:
        name, missing = async_to_sync(_look)(needs or _needs_of_all())
    except BackendError as problem:
        yield Finding(CREDENTIALS, "wrong", problem.sentence, TOKEN_ADVICE)
        return
    yield Finding(CREDENTIALS, "ok", f"they open the workspace {name}")
    # Without a pool nothing fails yet for what is missing.
    state = "wrong" if needs else "warning"
    for each in missing:
        yield Finding(WORKERS, state, f"The workspace lacks {each.what}.", f"Run `{each.command}`.")
    if not missing:
        yield Finding(WORKERS, "ok", "it has the images and the weights that are needed")


async def _look(needs: list[Need]) -> tuple[str, list[Missing]]:
    """Return what the workspace is called, and what it lacks."""
    workspace = await open_workspace()
    about = modal.Workspace.from_context(client=workspace.client)
    async with named(within_seconds=ASK_SECONDS):
        await about.hydrate.aio()
    return about.name or "", [each async for each in missing_in(workspace, needs)]


def _needs_of_pools() -> list[Need]:
    try:
        with enter_operator("manage.py doctor", reason="see what pools on Modal need"):
            pools = Pool.objects.enabled().filter(backend="modal").select_related("tenant")
            specs = [pool.spec() for pool in pools]
            # What stands in a tenant's own workspace needs nothing of the operator's.
            return [_need_of(spec) for spec in specs if not spec.account]
    except DatabaseError:  # which is a finding already
        return []


def _needs_of_all() -> list[Need]:
    """Return what pools of all kinds would need that name nothing of their own."""
    blank = DeploymentSpec(environment="", tenant_id="", tenant_slug="", pool_id="", worker="", region="")
    return [_need_of(complete("modal", dataclasses.replace(blank, worker=worker))) for worker in Worker.values]


def _need_of(spec: DeploymentSpec) -> Need:
    return Need(spec.worker, spec.image, spec.checkpoint)
