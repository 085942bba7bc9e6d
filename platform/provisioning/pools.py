"""What people do with pools. Each change is checked as a whole, audited, and applied by a task once it is committed."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone

from billing.entitlements import entitlements_of
from provisioning import tasks
from provisioning.backends import pool_presets
from provisioning.models import Pool
from provisioning.models.pools import Worker
from provisioning.regions import REGIONS
from provisioning.warm_hours import read_windows
from tenants import audit
from tenants.models import Tenant, User
from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias
from tenants.tasks import delay_on_commit

CHANGEABLE = (*Pool.SPEC_FIELDS, *Pool.AUTOSCALING_FIELDS, "warm_hours")


def create_pool(*, actor: User | None, **fields: Any) -> Pool:
    """Make a pool of the entered tenant, and have it deployed. What is not said of it is as its worker needs it there.

    Raises:
        ValidationError: a field, or what the plan allows.
    """
    pool = Pool(tenant_id=entered_tenant_id(), **fields)
    if pool.worker in Worker.values:
        for name, value in pool_presets(pool.backend, pool.worker).items():
            if name not in fields:
                setattr(pool, name, value)
    _check(pool)
    pool.save(force_insert=True)
    audit.record(
        action="pool.created",
        target=pool,
        actor=actor,
        details={name: _told(name, getattr(pool, name)) for name in ("backend", *CHANGEABLE)},
    )
    _apply(pool)
    return pool


def change_pool(*, pool: Pool, actor: User | None, **changes: Any) -> Pool:
    """Change a pool's settings. Autoscaling is changed live; for the rest, a new deployment starts beside the old one.

    Raises:
        ValidationError
    """
    if unknown := set(changes) - set(CHANGEABLE):
        raise TypeError(f"A pool's {', '.join(sorted(unknown))} cannot be changed.")
    before = {name: getattr(pool, name) for name in changes}
    for name, value in changes.items():
        setattr(pool, name, value)
    _check(pool)
    changed = {name: [before[name], getattr(pool, name)] for name in changes if before[name] != getattr(pool, name)}
    if changed:
        if not set(changed).isdisjoint(Pool.SPEC_FIELDS):
            pool.snapshots_given_up_at = None  # another specification may do better
        _save(pool, *changed, "snapshots_given_up_at")
        told = {name: [_told(name, value) for value in values] for name, values in changed.items()}
        audit.record(action="pool.changed", target=pool, actor=actor, details=told)
    return pool


def set_enabled(*, pool: Pool, actor: User | None, enabled: bool) -> Pool:
    """Start a pool again, or drain and stop it.

    Raises:
        ValidationError: the plan does not allow it.
    """
    if pool.is_enabled == enabled:
        return pool
    pool.is_enabled = enabled
    if enabled:
        _check(pool)
    _save(pool, "is_enabled")
    audit.record(action="pool.enabled" if enabled else "pool.disabled", target=pool, actor=actor)
    return pool


def try_again(*, pool: Pool, actor: User | None) -> None:
    """Deploy a pool once more whose deployment failed, or restore its containers, which was given up."""
    pool.snapshots_given_up_at = None
    _save(pool, "snapshots_given_up_at")
    audit.record(action="pool.tried_again", target=pool, actor=actor)


def deploy_again(backend: str) -> None:
    """Bring about all pools of a backend anew: they are to stand in another account."""
    for pool in Pool.objects.enabled().filter(backend=backend):
        _save(pool)


def choose_region(*, tenant: Tenant, region: str, actor: User | None) -> None:
    """Say where the entered tenant's callers mostly are: pools there are tried first. "local": nowhere in particular.

    Raises:
        ValidationError
    """
    if region not in REGIONS:
        raise ValidationError({"region": f"Choose one of {', '.join(REGIONS)}."})
    if region != tenant.region:
        details = {"region": [tenant.region, region]}
        tenant.region = region
        tenant.save(update_fields=["region"])
        audit.record(action="tenant.changed", target=tenant.name, actor=actor, details=details)


def _told(name: str, value: Any) -> Any:
    """Return a field's value as the audit trail tells it."""
    return [str(window) for window in read_windows(value)] if name == "warm_hours" else value


def _save(pool: Pool, *fields: str) -> None:
    pool.changed_at = timezone.now()
    pool.save(update_fields=[*fields, "changed_at"])
    _apply(pool)


def _apply(pool: Pool) -> None:
    delay_on_commit(tasks.apply_pool, tenant_id=str(pool.tenant_id), pool_id=str(pool.pk))


def _check(pool: Pool) -> None:
    # Two changes at once could both stay under the plan's limit, and exceed it together.
    with connections[current_alias()].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"pools of {pool.tenant_id}"])
    pool.full_clean()
    if not pool.is_enabled:
        return
    if pool.is_shared and not Tenant.objects.get(pk=pool.tenant_id).is_house:
        raise ValidationError({"is_shared": "Only the operator's pools are shared."})
    entitlements = entitlements_of()
    others = Pool.objects.enabled().exclude(pk=pool.pk)
    elsewhere = others.warm_containers()
    most_warm = pool.most_warm_containers
    if most_warm and elsewhere + most_warm > entitlements.warm_containers:
        field = "min_containers" if most_warm == pool.min_containers else "warm_hours"
        raise ValidationError(
            {
                field: f"The {entitlements.plan} plan keeps up to {entitlements.warm_containers} containers "
                f"warm, and your other pools have {elsewhere}."
            }
        )
    regions = set(others.values_list("region", flat=True)) | {pool.region}
    if len(regions) > entitlements.regions:
        raise ValidationError(
            {
                "region": f"The {entitlements.plan} plan serves up to {entitlements.regions} "
                f"region{'s' if entitlements.regions != 1 else ''}, and with this pool you would have "
                f"{len(regions)}: {', '.join(sorted(regions))}."
            }
        )
