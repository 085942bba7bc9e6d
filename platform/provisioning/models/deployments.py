"""What backends made of pools: deployments with their states, and the containers seen in them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from provisioning.backends import FOLLOW_SECONDS
from provisioning.backends.contract import (
    AccountRef,
    Autoscaling,
    ContainerReport,
    ContainerState,
    DeploymentRef,
    DeploymentSpec,
    PrimingReport,
    StopReason,
)
from provisioning.models.pools import Pool
from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned, TenantQuerySet

FIRST_RETRY_SECONDS = 5
LONGEST_RETRY_SECONDS = 300
SEEN_EVERY = timedelta(seconds=15)


class WrongState(RuntimeError):
    """A deployment cannot go from its state to the one asked for."""


class DeploymentQuerySet(TenantQuerySet):
    def live(self) -> DeploymentQuerySet:
        """Those that the backend has, or is to have."""
        return self.filter(state__in=Deployment.LIVE)

    def ready(self) -> DeploymentQuerySet:
        return self.filter(state=Deployment.State.READY)

    def standing(self) -> DeploymentQuerySet:
        """Those that have been brought up: they serve calls, or the rest of them."""
        return self.filter(state__in=[Deployment.State.READY, Deployment.State.DRAINING])

    def in_account(self, account: AccountRef | None) -> DeploymentQuerySet:
        """Those that stand, or stood, in a tenant's own account; those in the operator's where none is given."""
        if account is None:
            return self.exclude(spec__has_key="account")
        return self.filter(tenant_id=account.tenant_id, spec__account=account.id)


class Deployment(TenantOwned):
    """One specification of a pool, standing in a backend."""

    class State(models.TextChoices):
        PENDING = "pending"
        DEPLOYING = "deploying"
        PRIMING = "priming"
        READY = "ready"
        DRAINING = "draining"
        STOPPED = "stopped"
        FAILED = "failed"

    LIVE: ClassVar = (State.PENDING, State.DEPLOYING, State.PRIMING, State.READY, State.DRAINING)
    UNFINISHED: ClassVar = (State.PENDING, State.DEPLOYING, State.PRIMING)
    TRANSITIONS: ClassVar = {
        State.PENDING: {State.DEPLOYING, State.STOPPED, State.FAILED},
        State.DEPLOYING: {State.PRIMING, State.DRAINING, State.FAILED},
        State.PRIMING: {State.READY, State.DRAINING, State.FAILED},
        State.READY: {State.DRAINING},
        State.DRAINING: {State.READY, State.STOPPED},
        State.STOPPED: set(),
        State.FAILED: set(),
    }

    pool = TenantForeignKey(Pool, on_delete=models.CASCADE, related_name="deployments")
    name = models.CharField(max_length=64, help_text="In the backend.")
    backend = models.CharField(max_length=16)
    worker = models.CharField(max_length=12)
    region = models.CharField(max_length=32)
    spec = models.JSONField()
    spec_hash = models.CharField(max_length=16)
    rate_nano_dollars_per_second = models.BigIntegerField(help_text="Of one container, when it was deployed.")
    autoscaling = models.JSONField(null=True, help_text="As last told to the backend.")

    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    state_changed_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ready_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)

    followed_at = models.DateTimeField(null=True, help_text="When its backend was last asked how it stands.")

    problem = models.CharField(max_length=500, blank=True, help_text="What went wrong last, in a sentence.")
    problem_is_permanent = models.BooleanField(default=False)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="That failed in a row.")
    retry_at = models.DateTimeField(null=True)
    priming = models.JSONField(default=dict, help_text="What its first boots were like.")

    objects = TenantManager.from_queryset(DeploymentQuerySet)()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "pool", "spec_hash"],
                condition=models.Q(state__in=["pending", "deploying", "priming", "ready", "draining"]),
                name="one_live_deployment_per_spec",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    state__in=["pending", "deploying", "priming", "ready", "draining", "stopped", "failed"]
                ),
                name="deployment_state_is_known",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "worker"], condition=models.Q(state="ready"), name="deployments_ready"),
            models.Index(fields=["tenant", "name"], name="deployments_by_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of_pool(cls, pool: Pool) -> Deployment:
        """Make the pending deployment of a pool's specification as it is now."""
        spec = pool.spec()
        return cls.objects.create(
            pool=pool,
            name=spec.name,
            backend=pool.backend,
            worker=spec.worker,
            region=spec.region,
            spec=spec.to_document(),
            spec_hash=spec.spec_hash(),
            rate_nano_dollars_per_second=pool.rate_nano_dollars_per_second,
        )

    # --- as the backend knows it ------------------------------------------------------------------------------------
    @property
    def ref(self) -> DeploymentRef:
        return DeploymentRef(
            name=self.name,
            worker=self.worker,
            region=self.region,
            tenant_id=str(self.tenant_id),
            account=self.spec.get("account", ""),
        )

    @property
    def specification(self) -> DeploymentSpec:
        return DeploymentSpec.from_document(self.spec)

    def is_scaled_to(self, autoscaling: Autoscaling) -> bool:
        return self.autoscaling == _document(autoscaling)

    @property
    def was_followed_lately(self) -> bool:
        pause = timedelta(seconds=FOLLOW_SECONDS.get(self.backend, 0.0))
        return self.followed_at is not None and self.followed_at > timezone.now() - pause

    def note_followed(self) -> None:
        self.followed_at = timezone.now()
        self.save(update_fields=["followed_at"])

    def remember_scaling(self, autoscaling: Autoscaling) -> None:
        self.autoscaling = _document(autoscaling)
        self.save(update_fields=["autoscaling"])

    # --- states -----------------------------------------------------------------------------------------------------
    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE

    def start_deploying(self) -> None:
        self._become(self.State.DEPLOYING)

    def start_priming(self) -> None:
        self._become(self.State.PRIMING)

    def note_priming(self, priming: PrimingReport) -> None:
        """Keep what its first boots were like, after those that are known."""
        seen = self.priming
        self.priming = {
            "boots": [*seen.get("boots", []), *priming.boots],
            "boot_ms": [*seen.get("boot_ms", []), *priming.boot_ms],
            "failures": [*seen.get("failures", []), *priming.failures],
        }
        self.save(update_fields=["priming"])

    @property
    def first_boots(self) -> list[tuple[str, float]]:
        """How the containers came up while it was primed, and in how many ms."""
        return list(zip(self.priming.get("boots", []), self.priming.get("boot_ms", []), strict=False))

    @property
    def cold_boots(self) -> int:
        """How many containers have come up cold while it was primed."""
        return sum(boot == "cold" for boot in self.priming.get("boots", []))

    def become_ready(self, priming: PrimingReport) -> None:
        self.note_priming(priming)
        self.ready_at = timezone.now()
        self._become(self.State.READY, problem="")

    def start_draining(self) -> None:
        """Take no new calls; those that are there go on to their end."""
        self._become(self.State.DRAINING)

    def take_calls_again(self) -> None:
        """Go back to ready: the pool was changed back before this deployment was gone."""
        if self.state != self.State.DRAINING:
            raise WrongState(f"{self} is {self.state}, not draining.")
        self._become(self.State.READY)

    def become_stopped(self) -> None:
        self.stopped_at = timezone.now()
        self._become(self.State.STOPPED)

    def fail(self, problem: str, *, permanent: bool) -> None:
        """Give up this deployment; the pool's others go on."""
        self.stopped_at = timezone.now()
        self.problem_is_permanent = permanent
        self._become(self.State.FAILED, problem=problem)

    def try_later(self, problem: str) -> None:
        """Note a passing problem: the next attempt comes later, each time twice as late."""
        wait_seconds = min(FIRST_RETRY_SECONDS * 2**self.attempts, LONGEST_RETRY_SECONDS)
        self.attempts += 1
        self.problem = problem[:500]
        self.retry_at = timezone.now() + timedelta(seconds=wait_seconds)
        self.save(update_fields=["attempts", "problem", "retry_at"])

    def note_problem(self, problem: str) -> None:
        """Keep what is wrong with it while it stands; empty where nothing is."""
        self.problem = problem[:500]
        self.save(update_fields=["problem"])

    @property
    def is_due(self) -> bool:
        return self.retry_at is None or self.retry_at <= timezone.now()

    @property
    def tried_for(self) -> timedelta:
        """How long the present attempt to bring it up has gone on."""
        return timezone.now() - max(self.state_changed_at, self.retry_at or self.state_changed_at)

    def _become(self, state: str, *, problem: str | None = None) -> None:
        """Change the state, unless another process did meanwhile.

        Raises:
            WrongState
        """
        if state not in self.TRANSITIONS[self.State(self.state)]:
            raise WrongState(f"{self} cannot become {state}: it is {self.state}.")
        changes: dict[str, Any] = {
            "state": state,
            "state_changed_at": timezone.now(),
            "attempts": 0,
            "retry_at": None,
            "ready_at": self.ready_at,
            "stopped_at": self.stopped_at,
            "priming": self.priming,
            "problem_is_permanent": self.problem_is_permanent,
        }
        if problem is not None:
            changes["problem"] = problem[:500]
        if not Deployment.objects.filter(pk=self.pk, state=self.state).update(**changes):
            raise WrongState(f"{self} is no longer {self.state}.")
        for name, value in changes.items():
            setattr(self, name, value)


def _document(autoscaling: Autoscaling) -> dict[str, int]:
    return {field: getattr(autoscaling, field) for field in Autoscaling.__dataclass_fields__}


class ContainerQuerySet(TenantQuerySet):
    def running(self) -> ContainerQuerySet:
        return self.filter(stopped_at=None)

    def note_seen(self, at: datetime) -> None:
        """Remember that these were there, unless that was written a moment ago."""
        self.filter(models.Q(seen_at=None) | models.Q(seen_at__lt=at - SEEN_EVERY)).update(seen_at=at)

    def settleable(self) -> ContainerQuerySet:
        return self.filter(is_settled=False)


class Container(TenantOwned):
    """One worker that ran, as its backend last reported it."""

    deployment = TenantForeignKey(Deployment, on_delete=models.CASCADE, related_name="containers")
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=10, choices=[(state.value, state.value.title()) for state in ContainerState])
    boot = models.CharField(max_length=10, blank=True)
    boot_ms = models.PositiveIntegerField(null=True)
    sessions = models.PositiveIntegerField(null=True, default=0, help_text="Empty where the backend cannot tell.")
    started_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True, help_text="Its backend last told of it, to within seconds.")
    why = models.CharField(max_length=20, blank=True, help_text="It stopped.")
    exit_code = models.IntegerField(null=True)
    settled_until = models.DateTimeField(null=True, help_text="Its cost is in the ledger up to here.")
    is_settled = models.BooleanField(default=False)

    objects = TenantManager.from_queryset(ContainerQuerySet)()

    class Meta:
        ordering = ["-started_at"]
        constraints = [models.UniqueConstraint(fields=["tenant", "deployment", "name"], name="one_row_per_container")]
        indexes = [
            models.Index(
                fields=["tenant", "deployment"], condition=models.Q(stopped_at=None), name="containers_running"
            ),
            models.Index(fields=["started_at"], condition=models.Q(is_settled=False), name="containers_unsettled"),
        ]

    def __str__(self) -> str:
        return self.name

    def follow(self, report: ContainerReport, *, is_new: bool = False) -> None:
        """Take over what the backend reports; nothing is written where nothing changed."""
        news = {
            "state": str(report.state),
            "boot": report.boot,
            "sessions": report.sessions,
            "started_at": report.started_at,
            "boot_ms": None if report.boot_ms is None else round(report.boot_ms),
            "ready_at": report.ready_at or self._seen_ready_at(report),
            "stopped_at": report.stopped_at,
            "why": str(report.why),
            "exit_code": report.exit_code,
        }
        changed = [name for name, value in news.items() if getattr(self, name) != value]
        for name in changed:
            setattr(self, name, news[name])
        if is_new:
            self.save(force_insert=True)
        elif changed:
            self.save(update_fields=changed)

    def _seen_ready_at(self, report: ContainerReport) -> datetime | None:
        """Return since when it was seen ready, where its backend does not tell when it became so."""
        is_up = report.state in (ContainerState.READY, ContainerState.DRAINING)
        return self.ready_at or (timezone.now() if is_up else None)

    def become_settled(self, until: datetime) -> None:
        """Remember that the cost of its life is in the ledger up to a time."""
        self.settled_until = until
        self.is_settled = self.stopped_at is not None and until >= self.stopped_at
        self.save(update_fields=["settled_until", "is_settled"])

    def become_lost(self) -> None:
        """Close the row of a container that its backend no longer knows: time after it was last seen costs nobody."""
        self._close(self.seen_at or self.ready_at or self.started_at, StopReason.LOST)

    def become_stopped(self, why: StopReason) -> None:
        """Close the row of a container that was stopped just now."""
        self._close(timezone.now(), why)

    def _close(self, at: datetime, why: StopReason) -> None:
        self.state, self.sessions, self.stopped_at, self.why = str(ContainerState.STOPPED), 0, at, str(why)
        self.save(update_fields=["state", "sessions", "stopped_at", "why"])
