"""From what is to what is wanted: a pool's deployments, one step after the other, each in a transaction of its own.

A new specification starts beside the old one and takes the new calls once it is ready; the old one drains, then stops.
Every step may be repeated: a process that dies in the middle leaves a state from which the next one goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import psycopg
import structlog
from asgiref.sync import async_to_sync
from django.utils import timezone

from provisioning.backends import make_backend
from provisioning.backends.contract import (
    Autoscaling,
    Backend,
    BackendError,
    BackendUnreachable,
    ContainerReport,
    CredentialsRefused,
    DeploymentReport,
    DeploymentUnknown,
    SessionUnavailable,
    StopReason,
)
from provisioning.locks import locking, only_one
from provisioning.models import Container, Deployment, Pool
from tenants import audit
from tenants.differences import Difference
from tenants.scope import enter_tenant

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

MOST_ATTEMPTS = 6
MOST_COLD_BOOTS = 6
"""So many containers in a row that were to be restored and were not: the pool goes on without snapshots."""
PRIMING_MARGIN_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 20.0
"""What takes longer to come up is waited for again by the next reconcile: tasks of other pools have their turn."""
QUIET_SECONDS = 5.0
"""A gateway may have chosen a deployment just before it began to drain: it is given so long to reserve its session."""
LONGEST_DRAIN = datetime.timedelta(hours=1)


def apply_pool(tenant_id: uuid.UUID, pool_id: uuid.UUID, *, at: datetime.datetime | None = None) -> bool:
    """Bring a pool about, deploying where needed; return False where another process is at it.

    Args:
        at: the moment for which its warm hours are asked; None: now.
    """
    with locking() as locks, only_one(locks, _lock_name(pool_id)) as is_ours:
        if not is_ours:
            return False
        with enter_tenant(tenant_id):
            wanted = _wanted_deployment(pool_id)
        if wanted is not None and wanted.state in Deployment.UNFINISHED and wanted.is_due:
            _deploy(wanted, at)
        _tend(tenant_id, pool_id, at)
        return True


def tend_pool(tenant_id: uuid.UUID, pool_id: uuid.UUID, locks: psycopg.Connection) -> bool:
    """Do the quick things for a pool: scale, follow its containers, drain and stop; bring back what its backend lost.

    Returns whether a deployment is to be made: that takes longer, and is `apply_pool`'s.
    """
    with only_one(locks, _lock_name(pool_id)) as is_ours:
        if not is_ours:
            return False
        _tend(tenant_id, pool_id)
        with enter_tenant(tenant_id):
            wanted = _wanted_deployment(pool_id)
            return wanted is not None and wanted.state in Deployment.UNFINISHED and wanted.is_due


# --- what is wanted --------------------------------------------------------------------------------------------------
def _wanted_deployment(pool_id: uuid.UUID) -> Deployment | None:
    """Return the deployment of the pool's specification, made or taken back into service where need be.

    None where the pool is disabled, or where this specification failed and nobody changed or retried the pool since.
    """
    pool = Pool.objects.select_for_update().get(pk=pool_id)
    if not pool.is_enabled:
        return None
    same_spec = pool.deployments.filter(spec_hash=pool.spec().spec_hash())
    if (live := same_spec.live().first()) is not None:
        # One that was given up before it served has proved nothing: it goes, and is then made anew.
        if live.state == Deployment.State.DRAINING and live.ready_at is not None:
            live.take_calls_again()
            _note(live, "deployment.taken_back")
        return live
    last = same_spec.order_by("-created_at").first()
    if last is not None and last.state == Deployment.State.FAILED and last.created_at > pool.changed_at:
        return None
    return Deployment.of_pool(pool)


# --- deploying -------------------------------------------------------------------------------------------------------
def _deploy(deployment: Deployment, at: datetime.datetime | None) -> None:
    """Take a deployment from pending to ready, or to where it is primed, or note why not."""
    with _in(deployment):
        if deployment.state == Deployment.State.PENDING:
            deployment.start_deploying()
        autoscaling = deployment.pool.autoscaling_at(at or timezone.now())
    spec = deployment.specification
    try:
        _ask(deployment, lambda backend: backend.deploy(spec, autoscaling))
        with _in(deployment):
            deployment.remember_scaling(autoscaling)
            if deployment.state == Deployment.State.DEPLOYING:
                deployment.start_priming()
        left_seconds = spec.startup_timeout_seconds + PRIMING_MARGIN_SECONDS - deployment.tried_for.total_seconds()
        wait_seconds = max(1.0, min(left_seconds, LONGEST_WAIT_SECONDS))
        priming = _ask(deployment, lambda backend: backend.prime(spec, timeout_seconds=wait_seconds))
    except SessionUnavailable as problem:
        if left_seconds <= LONGEST_WAIT_SECONDS:
            _note_failure(deployment, problem)
        return
    except BackendError as problem:
        _note_failure(deployment, problem)
        return
    with _in(deployment):
        if priming.is_done:
            deployment.become_ready(priming)
            _note(deployment, "deployment.ready", boots=deployment.priming["boots"])
            return
        deployment.note_priming(priming)
        if deployment.cold_boots >= MOST_COLD_BOOTS:
            deployment.pool.give_up_snapshots()
            _note(deployment, "pool.snapshots_given_up", boots=deployment.priming["boots"])


def _note_failure(deployment: Deployment, problem: BackendError) -> None:
    """Try again later where that can help; else give the deployment up, and leave nothing of it behind.

    A backend that is away says nothing of the deployment, which is not given up for it.
    """
    log.warning("deployment.problem", deployment=deployment.name, problem=problem.sentence)
    with _in(deployment):
        can_wait = isinstance(problem, BackendUnreachable) or deployment.attempts + 1 < MOST_ATTEMPTS
        if can_wait and not problem.permanent:
            deployment.try_later(problem.sentence)
            return
        deployment.fail(problem.sentence, permanent=problem.permanent)
        _note(deployment, "deployment.failed", problem=problem.sentence)
    with contextlib.suppress(BackendError):
        _ask(deployment, lambda backend: backend.stop(deployment.ref))
    with _in(deployment):
        _close_containers(deployment, StopReason.STOPPED)


# --- tending ---------------------------------------------------------------------------------------------------------
def _tend(tenant_id: uuid.UUID, pool_id: uuid.UUID, at: datetime.datetime | None = None) -> None:
    with enter_tenant(tenant_id):
        pool = Pool.objects.get(pk=pool_id)
        _retire_replaced(pool)
        standing = list(pool.deployments.standing().select_related("pool__tenant"))
    for deployment in standing:
        try:
            _tend_deployment(deployment, at or timezone.now())
        except BackendError as problem:
            _note_problem(deployment, problem.sentence)
            if isinstance(problem, CredentialsRefused) and _has_drained_long(deployment):
                # Nobody here can stop it any more: the account's owner took the token back.
                _become_stopped(deployment, StopReason.LOST)


def _retire_replaced(pool: Pool) -> None:
    """Drain what the pool no longer wants: everything, where it is disabled; else what a ready newcomer replaces."""
    wanted_hash = pool.spec().spec_hash() if pool.is_enabled else None
    live = list(pool.deployments.live())
    if wanted_hash and not any(
        deployment.spec_hash == wanted_hash and deployment.state == Deployment.State.READY for deployment in live
    ):
        # The newcomer is not there yet: what serves goes on; what never came to serve does not.
        live = [deployment for deployment in live if deployment.state in Deployment.UNFINISHED]
    for deployment in live:
        if deployment.spec_hash != wanted_hash and deployment.state != Deployment.State.DRAINING:
            _retire(deployment)


def _retire(deployment: Deployment) -> None:
    if deployment.state == Deployment.State.PENDING:
        deployment.become_stopped()
        return
    if deployment.is_live:
        deployment.start_draining()
        _note(deployment, "deployment.draining")


def _tend_deployment(deployment: Deployment, at: datetime.datetime) -> None:
    is_draining = deployment.state == Deployment.State.DRAINING
    wanted = deployment.pool.autoscaling_at(at)
    if is_draining:
        wanted = Autoscaling(max_containers=wanted.max_containers, scaledown_window_seconds=2)
    try:
        if not deployment.is_scaled_to(wanted):
            _ask(deployment, lambda backend: backend.scale(deployment.ref, wanted))
            with _in(deployment):
                deployment.remember_scaling(wanted)
                if deployment.pool.warm_hours and not is_draining:
                    _note(deployment, "deployment.scaled", **dataclasses.asdict(wanted))
        elif deployment.was_followed_lately:
            return
        report = _ask(deployment, lambda backend: backend.status(deployment.ref))
        if report.autoscaling not in (None, wanted):
            _mend_scaling(deployment, report, wanted)
    except DeploymentUnknown:
        if is_draining:
            _become_stopped(deployment, StopReason.LOST)
            return
        report = _bring_back(deployment, wanted)
    with _in(deployment):
        deployment.note_followed()
        _follow_containers(deployment, report)
    _note_problem(deployment, report.sentence)
    if is_draining and _is_drained(deployment, report):
        _stop(deployment)


def _mend_scaling(deployment: Deployment, report: DeploymentReport, wanted: Autoscaling) -> None:
    """Set limits again that somebody else has changed."""
    _ask(deployment, lambda backend: backend.scale(deployment.ref, wanted))
    with _in(deployment):
        _note(deployment, "deployment.scaling_mended", found=dataclasses.asdict(report.autoscaling or wanted))


def _bring_back(deployment: Deployment, autoscaling: Autoscaling) -> DeploymentReport:
    """Deploy again what the backend has lost, while it counts as ready: sessions wait for its containers."""
    log.warning("deployment.lost", deployment=deployment.name)
    report = _ask(deployment, lambda backend: backend.deploy(deployment.specification, autoscaling))
    with _in(deployment):
        _close_containers(deployment, StopReason.LOST)
        deployment.remember_scaling(autoscaling)
        _note(deployment, "deployment.brought_back")
    return report


def _is_drained(deployment: Deployment, report: DeploymentReport) -> bool:
    draining_for = timezone.now() - deployment.state_changed_at
    is_quiet = report.is_idle and draining_for.total_seconds() > QUIET_SECONDS
    return is_quiet or _has_drained_long(deployment)


def _has_drained_long(deployment: Deployment) -> bool:
    is_draining = deployment.state == Deployment.State.DRAINING
    return is_draining and timezone.now() - deployment.state_changed_at > LONGEST_DRAIN


def _stop(deployment: Deployment) -> None:
    _ask(deployment, lambda backend: backend.stop(deployment.ref))
    _become_stopped(deployment, StopReason.DRAINED)


def _become_stopped(deployment: Deployment, why: StopReason) -> None:
    with _in(deployment):
        _close_containers(deployment, why)
        deployment.become_stopped()
        _note(deployment, "deployment.stopped")


def _note_problem(deployment: Deployment, sentence: str) -> None:
    """Keep what is wrong with a standing deployment for its page; nothing is written while nothing changes."""
    if deployment.problem != sentence[:500]:
        if sentence:
            log.warning("deployment.problem", deployment=deployment.name, problem=sentence)
        with _in(deployment):
            deployment.note_problem(sentence)


# --- looking, changing nothing ---------------------------------------------------------------------------------------
def differences_of(pool: Pool) -> list[Difference]:
    """Return what applying a pool of the entered tenant would change."""
    found = []
    wanted_hash = pool.spec().spec_hash() if pool.is_enabled else None
    live = list(pool.deployments.live().select_related("pool"))
    if wanted_hash and not any(deployment.spec_hash == wanted_hash for deployment in live):
        found.append(Difference(str(pool), "is to be deployed"))
    for deployment in live:
        if deployment.spec_hash != wanted_hash and deployment.state == Deployment.State.READY:
            found.append(Difference(deployment.name, "is to be drained"))
        if deployment.state == Deployment.State.READY and (sentence := _how_it_differs(deployment)):
            found.append(Difference(deployment.name, sentence))
    return found


def _how_it_differs(deployment: Deployment) -> str:
    wanted = deployment.pool.autoscaling
    try:
        report = _ask(deployment, lambda backend: backend.status(deployment.ref))
    except DeploymentUnknown:
        return "is lost, and is to be brought back"
    except BackendError as problem:
        return f"cannot be asked: {problem.sentence}"
    if report.autoscaling in (None, wanted):
        return ""
    changes = {
        name: (found, value)
        for name, value in dataclasses.asdict(wanted).items()
        if (found := getattr(report.autoscaling, name)) != value
    }
    return "; ".join(f"{name} is {found}, and is to be {value}" for name, (found, value) in changes.items())


# --- containers ------------------------------------------------------------------------------------------------------
def _follow_containers(deployment: Deployment, report: DeploymentReport) -> None:
    """Bring the rows up to date with what the backend tells; those that it no longer knows are closed."""
    known = {container.name: container for container in deployment.containers.all()}
    told = {container.name for container in report.containers}
    for each in report.containers:
        _follow(deployment, known.get(each.name), each)
    for name, container in known.items():
        if container.stopped_at is None and name not in told:
            if report.forgets_stopped:
                container.become_stopped(StopReason.SCALEDOWN)
            else:
                container.become_lost()
    deployment.containers.running().note_seen(timezone.now())


def _follow(deployment: Deployment, container: Container | None, report: ContainerReport) -> None:
    if container is None:
        container = Container(
            deployment=deployment, name=report.name, started_at=report.started_at, tenant_id=deployment.tenant_id
        )
        container.follow(report, is_new=True)
    elif container.stopped_at is None:
        container.follow(report)


def _close_containers(deployment: Deployment, why: StopReason) -> None:
    for container in deployment.containers.running():
        if why == StopReason.LOST:
            container.become_lost()
        else:
            container.become_stopped(why)


# --- plumbing --------------------------------------------------------------------------------------------------------
def _ask(deployment: Deployment, question: Callable[[Backend], Awaitable[Result]]) -> Result:
    """Ask a deployment's backend, outside any transaction.

    Raises:
        BackendError
    """

    async def ask() -> Result:
        async with make_backend(deployment.backend) as backend:
            return await question(backend)

    return async_to_sync(ask)()


@contextlib.contextmanager
def _in(deployment: Deployment) -> Iterator[None]:
    with enter_tenant(deployment.tenant_id):
        yield


def _note(deployment: Deployment, action: str, **details: object) -> None:
    """Write to the tenant's audit trail what the platform did by itself."""
    log.info(action, deployment=deployment.name, **details)
    audit.record(action=action, target=deployment, details=details)


def _lock_name(pool_id: uuid.UUID) -> str:
    return f"pool {pool_id}"
