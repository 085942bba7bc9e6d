"""What a tenant pays for: plans, subscriptions, and the ledger of what was sold."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from tenants.ownership import TenantManager, TenantOwned, TenantQuerySet


class PlanQuerySet(models.QuerySet):
    def public(self) -> PlanQuerySet:
        return self.filter(is_public=True)


class Plan(models.Model):
    """A price and what it entitles to. Operators change plans; the application only reads them."""

    operator_writes = True

    slug = models.SlugField(primary_key=True, max_length=40)
    name = models.CharField(max_length=60)
    position = models.PositiveSmallIntegerField(default=0)
    is_public = models.BooleanField(default=True, help_text="Shown on the pricing page.")
    monthly_price_cents = models.PositiveIntegerField(help_text="US cents.")
    trial_days = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Ends by itself after so many days.")
    max_agents = models.PositiveIntegerField()
    max_concurrent_calls = models.PositiveIntegerField()
    included_minutes = models.PositiveIntegerField()
    overage_cents_per_minute = models.PositiveIntegerField(help_text="0: calls stop at the included minutes.")
    max_regions = models.PositiveSmallIntegerField()
    max_warm_containers = models.PositiveSmallIntegerField()
    retention_days = models.PositiveSmallIntegerField()
    regulated = models.BooleanField(default=False, help_text="May hold regulated data.")
    support = models.CharField(max_length=80)

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ["position"]

    def __str__(self) -> str:
        return self.name


class Subscription(TenantOwned):
    """Which plan a tenant is on, and whether it may place calls."""

    class Status(models.TextChoices):
        TRIALING = "trialing"
        ACTIVE = "active"
        PAST_DUE = "past_due"
        CANCELLED = "cancelled"

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=12, choices=Status.choices)
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    period_started_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="one_subscription_per_tenant")]

    def __str__(self) -> str:
        return f"{self.plan} ({self.status})"

    @property
    def trial_has_ended(self) -> bool:
        return (
            self.status == self.Status.TRIALING
            and self.trial_ends_at is not None
            and self.trial_ends_at <= timezone.now()
        )


class UsageQuerySet(TenantQuerySet):
    def total(self, kind: str) -> int:
        return self.filter(kind=kind).aggregate(total=models.Sum("quantity"))["total"] or 0


class Usage(TenantOwned):
    """The ledger of what was sold. A correction is a further entry, with a negative quantity."""

    class Kind(models.TextChoices):
        CALL_SECONDS = "call_seconds", "Seconds of conversation"

    append_only: ClassVar[bool] = True

    kind = models.CharField(max_length=20, choices=Kind.choices)
    quantity = models.BigIntegerField()
    call_id = models.UUIDField(null=True)
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)
    idempotency_key = models.CharField(max_length=120)

    objects = TenantManager.from_queryset(UsageQuerySet)()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "idempotency_key"], name="usage_once_per_key")]
        indexes = [
            models.Index(fields=["tenant", "kind", "occurred_at"], name="usage_by_time"),
            models.Index(fields=["tenant", "recorded_at"], name="usage_by_record"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} {self.kind}"


class LedgerSeal(TenantOwned):
    """A link of a tenant's chain: what one ledger recorded in a stretch of time, digested. See billing.sealing."""

    append_only: ClassVar[bool] = True

    ledger = models.CharField(max_length=12)
    number = models.PositiveIntegerField(help_text="From 1, without gaps.")
    since = models.DateTimeField(help_text="Entries recorded at this time or later …")
    until = models.DateTimeField(help_text="… and before this one.")
    entries = models.PositiveIntegerField()
    total = models.BigIntegerField(help_text="The sum of the entries' amounts.")
    digest = models.CharField(max_length=64, help_text="SHA-256 over the digest before it and the entries.")
    sealed_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["ledger", "number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "ledger", "number"], name="one_chain_per_ledger")]

    def __str__(self) -> str:
        return f"Seal {self.number} of the {self.ledger} ledger"
