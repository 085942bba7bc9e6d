"""Trying again what failed for want of something that is there now: an image, weights."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connections

from provisioning import pools
from provisioning.models import Pool
from tenants.scope import enter_tenant

# What crosses tenants by right goes over the operator's connection (tenants.scope).
FAILED = """
    SELECT newest.tenant_id, newest.pool_id FROM (
        SELECT DISTINCT ON (pool_id) tenant_id, pool_id, backend, state, problem
        FROM provisioning_deployment ORDER BY pool_id, created_at DESC
    ) newest
    JOIN provisioning_pool pool ON pool.id = newest.pool_id AND pool.is_enabled
    WHERE newest.state = 'failed' AND newest.backend = %s
        AND EXISTS (SELECT FROM unnest(%s::text[]) AS wanted (name) WHERE strpos(newest.problem, wanted.name) > 0)
"""


def try_again_for(names: list[str], *, backend: str) -> list[Pool]:
    """Deploy the pools once more whose last deployment failed with one of these names in its sentence; return them."""
    tried = []
    for tenant_id, pool_id in _failed(names, backend):
        with enter_tenant(tenant_id):
            pool = Pool.objects.get(pk=pool_id)
            pools.try_again(pool=pool, actor=None)
            tried.append(pool)
    return tried


def _failed(names: list[str], backend: str) -> list[tuple[uuid.UUID, uuid.UUID]]:
    with connections["operator"].cursor() as cursor:
        cursor.execute(FAILED, [backend, names])
        rows: list[tuple[Any, Any]] = cursor.fetchall()
        return rows
