"""How pools stand: what was asked for, what is there, and what today has brought."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections import Counter
from collections.abc import Iterable

from django.utils import timezone

from provisioning.backends.contract import Autoscaling, ContainerState
from provisioning.models import Container, CostEntry, Deployment, Pool
from provisioning.warm_hours import Kept, WarmWindow

BOOTS = ("warm", "restored", "cold")


@dataclasses.dataclass(frozen=True)
class PoolStanding:
    """`state`: off, waiting (nothing was deployed yet), or the state of the newest deployment."""

    pool: Pool
    state: str
    is_serving: bool
    """A deployment takes calls, which need not be the newest."""
    problem: str
    containers: Counter[str]
    sessions: int
    boots: Counter[str]
    """Containers started today, by how."""
    cost_nano_dollars: int
    """Of today: calls and waiting."""
    wanted: Autoscaling
    """Now."""
    window: WarmWindow | None
    """The one of its warm hours that holds now."""
    next_change: tuple[datetime.datetime, Kept] | None

    @property
    def ready(self) -> int:
        return self.containers[ContainerState.READY]

    @property
    def starting(self) -> int:
        return self.containers[ContainerState.STARTING]

    @property
    def draining(self) -> int:
        return self.containers[ContainerState.DRAINING]

    @property
    def places(self) -> int:
        return self.ready * self.pool.sessions_per_container

    @property
    def boots_by_kind(self) -> list[tuple[str, int]]:
        return [(kind, self.boots[kind]) for kind in BOOTS if self.boots[kind]]


def pool_standings(pools: Iterable[Pool] | None = None) -> list[PoolStanding]:
    """Return how pools stand, in the entered tenant or, for the operator, in all."""
    chosen = list(Pool.objects.select_related("tenant") if pools is None else pools)
    if not chosen:
        return []
    now = timezone.now()
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    deployments = _newest_deployments(chosen)
    serving = set(Deployment.objects.ready().filter(pool__in=chosen).values_list("pool_id", flat=True))
    containers = _running_containers(chosen)
    boots = _boots_since(today, chosen)
    costs = CostEntry.objects.since(today).by_pool()
    return [
        PoolStanding(
            pool=pool,
            state=_state(pool, deployments.get(pool.pk)),
            is_serving=pool.pk in serving,
            problem=deployments[pool.pk].problem if pool.pk in deployments else "",
            containers=Counter(container.state for container in containers.get(pool.pk, [])),
            sessions=sum(container.sessions or 0 for container in containers.get(pool.pk, [])),
            boots=boots.get(pool.pk, Counter()),
            cost_nano_dollars=costs.get(pool.pk, 0),
            wanted=pool.autoscaling_at(now),
            window=pool.schedule.window_at(now) if pool.warm_hours else None,
            next_change=pool.schedule.next_change(now) if pool.warm_hours else None,
        )
        for pool in chosen
    ]


def _state(pool: Pool, deployment: Deployment | None) -> str:
    if deployment is not None and (deployment.is_live or pool.is_enabled):
        return deployment.state
    return "waiting" if pool.is_enabled else "off"


def _newest_deployments(pools: list[Pool]) -> dict[uuid.UUID, Deployment]:
    newest = Deployment.objects.filter(pool__in=pools).order_by("pool_id", "-created_at").distinct("pool_id")
    return {deployment.pool_id: deployment for deployment in newest}


def _running_containers(pools: list[Pool]) -> dict[uuid.UUID, list[Container]]:
    found: dict[uuid.UUID, list[Container]] = {}
    for container in Container.objects.running().filter(deployment__pool__in=pools).select_related("deployment"):
        found.setdefault(container.deployment.pool_id, []).append(container)
    return found


def _boots_since(at: datetime.datetime, pools: list[Pool]) -> dict[uuid.UUID, Counter[str]]:
    found: dict[uuid.UUID, Counter[str]] = {}
    started = Container.objects.filter(started_at__gte=at, deployment__pool__in=pools).exclude(boot="")
    for pool_id, boot in started.values_list("deployment__pool_id", "boot"):
        found.setdefault(pool_id, Counter())[boot] += 1
    return found
