"""The periodic look at everything: pools of all tenants, and what backends have that nobody wants."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import connections

from provisioning import applying
from provisioning.backends import ORPHANS_SECONDS, make_backend
from provisioning.backends.contract import AccountRef, BackendError, DeploymentRef
from provisioning.locks import locking, only_one
from provisioning.models import Pool
from tenants import audit
from tenants.differences import Difference
from tenants.models import Tenant
from tenants.scope import enter_tenant

log = structlog.get_logger(__name__)

# What crosses tenants by right goes over the operator's connection (tenants.scope).
POOLS = """
    SELECT pool.tenant_id, pool.id FROM provisioning_pool pool
    WHERE pool.is_enabled OR EXISTS (
        SELECT 1 FROM provisioning_deployment deployment
        WHERE deployment.pool_id = pool.id AND deployment.state NOT IN ('stopped', 'failed')
    )
    ORDER BY pool.id
"""
LIVE_NAMES = """
    SELECT name FROM provisioning_deployment WHERE backend = %s AND state NOT IN ('stopped', 'failed')
"""
BACKENDS_IN_USE = "SELECT backend FROM provisioning_pool UNION SELECT backend FROM provisioning_deployment"
OWN_ACCOUNTS = "SELECT tenant_id, id FROM provisioning_account WHERE backend = %s AND forgotten_at IS NULL"


def reconcile(*, spares_backends: bool = False) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Tend every pool and stop orphans; return (tenant, pool) of those in which something is to be deployed.

    One process at a time does so: where a backend answers slowly, others have better things to do than wait for it too.

    Args:
        spares_backends: look for orphans no more often than ORPHANS_SECONDS says.
    """
    with locking() as locks, only_one(locks, "reconcile") as is_ours:
        return _reconcile(spares_backends=spares_backends) if is_ours else []


def _reconcile(*, spares_backends: bool) -> list[tuple[uuid.UUID, uuid.UUID]]:
    to_apply = []
    with locking() as locks:  # of pools, each let go of before the next is taken
        for tenant_id, pool_id in _rows(POOLS):
            try:
                if applying.tend_pool(tenant_id, pool_id, locks):
                    to_apply.append((tenant_id, pool_id))
            except Exception:
                # One pool's trouble is not to keep the others from being looked at.
                log.exception("pool.not_reconciled", pool_id=str(pool_id))
    for backend, account in _accounts():
        if spares_backends and not _is_due(backend, account):
            continue
        try:
            _stop_orphans(backend, account)
        except BackendError as problem:
            # Its deployments have this problem noted.
            log.debug("backend.away", backend=backend, problem=problem.sentence)
    return to_apply


def _is_due(backend: str, account: AccountRef | None) -> bool:
    """Return whether nobody has looked for orphans there for long enough. What Valkey loses is looked for sooner."""
    pause_seconds = ORPHANS_SECONDS.get(backend, 0.0)
    key = f"orphans:{backend}:{account.id if account else 'operator'}"
    return not pause_seconds or cache.add(key, True, timeout=pause_seconds)


def _accounts() -> list[tuple[str, AccountRef | None]]:
    """Return all accounts of the backends in use: the operator's, and those that tenants brought."""
    accounts: list[tuple[str, AccountRef | None]] = []
    for (backend,) in _rows(BACKENDS_IN_USE):
        own = [AccountRef(str(tenant_id), str(account_id)) for tenant_id, account_id in _rows(OWN_ACCOUNTS, backend)]
        accounts += [(backend, account) for account in (None, *own)]
    return accounts


def _stop_orphans(backend: str, account: AccountRef | None) -> None:
    """Stop deployments of this installation that no row wants: what a killed process left behind."""
    standing = async_to_sync(_standing)(backend, account)
    # Read after the backend was asked: a row is committed before its deployment is made.
    wanted = {name for (name,) in _rows(LIVE_NAMES, backend)}
    orphans = [ref for ref in standing if ref.name not in wanted]
    if orphans:
        log.warning("deployment.orphans_stopped", deployments=[ref.name for ref in orphans])
        async_to_sync(_stop)(backend, orphans)
        for ref in orphans:
            _note_orphan(ref)


def _note_orphan(ref: DeploymentRef) -> None:
    """Write into the trail of whom it was for that it was stopped, where that tenant is still here."""
    try:
        with enter_tenant(ref.tenant_id):
            if Tenant.objects.filter(pk=ref.tenant_id).exists():
                audit.record(action="deployment.orphan_stopped", target=ref.name)
    except (ValueError, ValidationError):
        log.warning("deployment.orphan_of_nobody", deployment=ref.name)


def differences() -> list[Difference]:
    """Return what `reconcile` would mend, and change nothing."""
    found = []
    for tenant_id, pool_id in _rows(POOLS):
        with enter_tenant(tenant_id):
            found += applying.differences_of(Pool.objects.get(pk=pool_id))
    for backend, account in _accounts():
        try:
            standing = async_to_sync(_standing)(backend, account)
        except BackendError as problem:
            found.append(Difference(backend, f"cannot be asked: {problem.sentence}"))
            continue
        wanted = {name for (name,) in _rows(LIVE_NAMES, backend)}
        orphans = (ref.name for ref in standing if ref.name not in wanted)
        found += [Difference(name, "is wanted by nobody, and is to be stopped") for name in orphans]
    return found


async def _standing(name: str, account: AccountRef | None) -> Sequence[DeploymentRef]:
    async with make_backend(name) as backend:
        standing = await backend.deployments(account)
    # In an account of its own a tenant writes what labels it likes: they speak of itself alone.
    return [ref for ref in standing if account is None or ref.tenant_id == account.tenant_id]


async def _stop(name: str, refs: Sequence[DeploymentRef]) -> None:
    async with make_backend(name) as backend:
        for ref in refs:
            await backend.stop(ref)


def _rows(statement: str, *params: str) -> list[tuple[Any, ...]]:
    with connections["operator"].cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()
