"""Where a call can be held: the ready deployments of a worker kind, in the order in which to try them.

For the gateway: plain psycopg, no ORM. See also `provisioning.backends.OpenBackends`, which then starts the session.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg.rows import class_row

from provisioning.backends.contract import DeploymentRef
from provisioning.regions import regions_by_nearness
from tenants.scope import enter_tenant_async


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A ready deployment. `is_own`: of the calling tenant; else of a pool that the operator shares."""

    pool_id: uuid.UUID
    deployment_id: uuid.UUID
    owner_id: uuid.UUID
    name: str
    backend: str
    worker: str
    region: str
    rate_nano_dollars_per_second: int
    is_own: bool
    account: str = ""
    """Of the owner, where it stands in one of its own: see DeploymentRef."""

    @property
    def ref(self) -> DeploymentRef:
        return DeploymentRef(
            name=self.name,
            worker=self.worker,
            region=self.region,
            tenant_id=str(self.owner_id),
            account=self.account,
        )


PLACES = "SELECT * FROM warmline_places(%(worker)s)"
"""The ready deployments for calls of the entered tenant: rows of `Place`."""


async def find_places(
    connection: psycopg.AsyncConnection[Any], *, tenant_id: uuid.UUID, worker: str, region: str
) -> list[Place]:
    """Return where a tenant's call can be held, in the order in which to try it: see `in_order`."""
    async with (
        connection.pipeline(),
        connection.transaction(),
        connection.cursor(row_factory=class_row(Place)) as cursor,
    ):
        await enter_tenant_async(connection, tenant_id)
        await cursor.execute(PLACES, {"worker": worker})
        places = await cursor.fetchall()
    return in_order(places, region)


def in_order(places: Iterable[Place], region: str) -> list[Place]:
    """Return a tenant's own places before shared ones, those in near regions before those in far ones."""
    nearness = {name: rank for rank, name in enumerate(regions_by_nearness(region))}
    return sorted(places, key=lambda place: (not place.is_own, nearness.get(place.region, len(nearness))))
