"""Desired state: which workers a tenant wants to have where, and how many."""

from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from provisioning import prices
from provisioning.backends import BACKENDS, OWN_ACCOUNTS, complete
from provisioning.backends.contract import Autoscaling, DeploymentSpec
from provisioning.models.accounts import Account, PriceList
from provisioning.regions import REGIONS
from provisioning.warm_hours import Kept, WarmHours, WindowRefused, read_windows
from tenants.ownership import TenantManager, TenantOwned, TenantQuerySet


class Worker(models.TextChoices):
    """Kinds of programs in `gpu_workers/`."""

    CASCADE = "cascade", "Cascade"
    MOSHI = "moshi", "Moshi"
    STT = "stt", "Speech to text"
    TTS = "tts", "Text to speech"
    LLM = "llm", "Language model"


class PoolQuerySet(TenantQuerySet):
    def enabled(self) -> PoolQuerySet:
        return self.filter(is_enabled=True)

    def warm_containers(self) -> int:
        """Return how many containers these pools keep warm at most, each in the hours in which it keeps most."""
        return sum(pool.most_warm_containers for pool in self.enabled())


def bounded(least: int, most: int) -> list[Any]:
    return [MinValueValidator(least), MaxValueValidator(most)]


class Pool(TenantOwned):
    """Workers of one kind in one region. Its autoscaling is changed live; all else needs a new deployment."""

    SPEC_FIELDS = (
        "image",
        "checkpoint",
        "gpu",
        "cpu_millicores",
        "memory_mib",
        "sessions_per_container",
        "snapshots",
        "startup_timeout_seconds",
        "exit_grace_seconds",
    )
    AUTOSCALING_FIELDS = ("min_containers", "buffer_containers", "max_containers", "scaledown_window_seconds")

    worker = models.CharField(max_length=12, choices=Worker.choices, default=Worker.CASCADE)
    region = models.CharField(max_length=32, choices=REGIONS, default="local")
    backend = models.CharField(max_length=16, choices={name: name.title() for name in BACKENDS}, default="local")
    is_enabled = models.BooleanField("enabled", default=True)
    is_shared = models.BooleanField(
        "shared", default=False, help_text="Serves tenants that have no pool of their own. The operator's pools only."
    )

    image = models.CharField(max_length=120, blank=True, help_text="Name and version of the workers' image.")
    checkpoint = models.CharField(max_length=200, blank=True, help_text="Weights other than the worker's own.")
    gpu = models.CharField(
        "GPU", max_length=80, blank=True, help_text="One, or several by preference: L4, A10. Empty: CPU alone."
    )
    cpu_millicores = models.PositiveIntegerField(default=1000, validators=bounded(100, 64_000))
    memory_mib = models.PositiveIntegerField("memory (MiB)", default=1024, validators=bounded(128, 344_064))
    sessions_per_container = models.PositiveSmallIntegerField(default=4, validators=bounded(1, 400))
    snapshots = models.BooleanField(default=True, help_text="Restore containers from a loaded state.")
    snapshots_given_up_at = models.DateTimeField(
        null=True, editable=False, help_text="Since when containers start cold, as none could be restored."
    )
    startup_timeout_seconds = models.PositiveIntegerField(default=120, validators=bounded(5, 3600))
    exit_grace_seconds = models.PositiveIntegerField(
        default=60, validators=bounded(0, 3600), help_text="How long live calls may go on when a container is stopped."
    )

    min_containers = models.PositiveSmallIntegerField(default=0, validators=bounded(0, 100), help_text="Always warm.")
    buffer_containers = models.PositiveSmallIntegerField(
        default=0, validators=bounded(0, 100), help_text="Idle ones kept ready while there are calls."
    )
    max_containers = models.PositiveSmallIntegerField(default=2, validators=bounded(1, 1000))
    scaledown_window_seconds = models.PositiveIntegerField(
        default=300, validators=bounded(2, 3600), help_text="How long a container may be idle before it is stopped."
    )
    warm_hours = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        blank=True,
        help_text="Weekly windows with numbers of their own: see provisioning.warm_hours.",
    )

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantManager.from_queryset(PoolQuerySet)()

    class Meta:
        ordering = ["worker", "region"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "worker", "region"],
                name="one_pool_per_worker_and_region",
                violation_error_message="There is a pool of this worker in this region already: change that one.",
            ),
            models.CheckConstraint(
                condition=models.Q(min_containers__lte=models.F("max_containers")), name="pool_min_within_max"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_worker_display()} · {self.get_region_display()}"

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(name for name in (part.strip() for part in self.gpu.split(",")) if name)

    @property
    def autoscaling(self) -> Autoscaling:
        return self.autoscaling_at(timezone.now())

    def autoscaling_at(self, at: datetime.datetime) -> Autoscaling:
        """Return what is wanted at a moment: in warm hours their numbers; a disabled pool wants nothing."""
        if not self.is_enabled:
            return Autoscaling(min_containers=0, buffer_containers=0, max_containers=self.max_containers)
        own = {field: getattr(self, field) for field in self.AUTOSCALING_FIELDS}
        if self.warm_hours:
            own |= self.schedule.kept_at(at)._asdict()
        return Autoscaling(**own)

    @property
    def schedule(self) -> WarmHours:
        """Its warm hours on the clocks of its tenant."""
        zone, else_kept = ZoneInfo(self.tenant.time_zone), Kept(self.min_containers, self.buffer_containers)
        return WarmHours(read_windows(self.warm_hours), zone, else_kept)

    @property
    def most_warm_containers(self) -> int:
        return max(self.min_containers, *(window.min_containers for window in read_windows(self.warm_hours)), 0)

    @property
    def account(self) -> Account | None:
        """The tenant's own account that new deployments are made in; None: the operator's."""
        if self.backend not in OWN_ACCOUNTS:
            return None
        return Account.objects.of_backend(self.backend).in_use().for_tenant(self.tenant_id).first()

    @property
    def rate_nano_dollars_per_second(self) -> int:
        """What one of its containers costs, by today's prices: the provider's, as far as it tells them."""
        price_list = PriceList.objects.in_force(self.backend, timezone.now().date())
        return prices.rate_of(
            gpu=self.gpus[0] if self.gpus else "",
            cpu_millicores=self.cpu_millicores,
            memory_mib=self.memory_mib,
            region=self.region,
            told=price_list.told if price_list else None,
        )

    def spec(self) -> DeploymentSpec:
        """Return what a backend is to run, complete: what the pool does not name is this installation's."""
        account = self.account
        spec = DeploymentSpec(
            environment=settings.ENVIRONMENT,
            tenant_id=str(self.tenant_id),
            tenant_slug=self.tenant.slug,
            pool_id=str(self.pk),
            worker=self.worker,
            region=self.region,
            **{field: getattr(self, field) for field in self.SPEC_FIELDS if field not in ("gpu", "snapshots")},
            gpu=self.gpus,
            snapshots=self.snapshots and self.snapshots_given_up_at is None,
            account=str(account.pk) if account else "",
        )
        return complete(self.backend, spec)

    def give_up_snapshots(self) -> None:
        """Go on with containers that start cold: none could be restored."""
        self.snapshots_given_up_at = timezone.now()
        self.save(update_fields=["snapshots_given_up_at"])

    def clean(self) -> None:
        problems: dict[str, str] = {}
        if self.min_containers > self.max_containers:
            problems["min_containers"] = (
                f"At least {self.min_containers} and at most {self.max_containers} containers cannot both be."
            )
        elif self.min_containers + self.buffer_containers > self.max_containers:
            problems["buffer_containers"] = (
                f"{self.min_containers} always warm and {self.buffer_containers} in reserve are more than "
                f"the {self.max_containers} allowed at most."
            )
        if problem := self._problem_of_warm_hours():
            problems["warm_hours"] = problem
        if unknown := [name for name in self.gpus if name not in prices.gpu_names()]:
            problems["gpu"] = f"{unknown[0]} is not a known GPU: choose from {', '.join(prices.gpu_names())}."
        elif self.backend == "local" and self.gpus:
            problems["gpu"] = "The local backend runs on the CPU: leave the GPU empty."
        if (self.backend == "local") != (self.region == "local"):
            problems["region"] = "The local backend runs on this machine, and only it does: choose its region."
        if problems:
            raise ValidationError(problems)

    def _problem_of_warm_hours(self) -> str:
        try:
            windows = read_windows(self.warm_hours)
        except WindowRefused as refusal:
            return str(refusal)
        self.warm_hours = [window.to_document() for window in windows]
        for window in windows:
            if window.min_containers + window.buffer_containers > self.max_containers:
                return f"{window} are more than the {self.max_containers} containers allowed at most."
        return ""
