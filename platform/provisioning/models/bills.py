"""What providers billed, hour by hour."""

from __future__ import annotations

import datetime
from typing import Any

from django.db import models
from django.utils import timezone

from provisioning.models.deployments import Deployment
from tenants.ownership import TenantForeignKey, TenantManager, TenantOwned, TenantQuerySet

HOUR = datetime.timedelta(hours=1)


class BilledHourQuerySet(TenantQuerySet):
    def by_deployment(self) -> dict[Any, dict[str, int]]:
        """Return `hours`, `estimated` and `billed` (nano-dollars) by deployment's id, of hours that were compared."""
        rows = (
            self.exclude(compared_at=None)
            .order_by()
            .values_list("deployment_id")
            .annotate(
                hours=models.Count("pk"),
                estimated=models.Sum("estimated_nano_dollars"),
                billed=models.Sum("billed_nano_dollars"),
            )
        )
        return {
            deployment_id: {"hours": hours, "estimated": int(estimated), "billed": int(billed)}
            for deployment_id, hours, estimated, billed in rows
        }


class BilledHour(TenantOwned):
    """An hour of a deployment as its provider has billed it, by what was read last. The ledger follows (`correcting`).

    What carries our labels and is no deployment of ours is kept too: it was paid for.
    """

    deployment = TenantForeignKey(Deployment, null=True, on_delete=models.CASCADE, related_name="billed_hours")
    backend = models.CharField(max_length=16)
    deployment_name = models.CharField(max_length=64)
    begins_at = models.DateTimeField()
    lines = models.JSONField(default=dict, help_text="Nano-dollars by the provider's key of a line.")
    billed_nano_dollars = models.BigIntegerField(default=0)
    told_at = models.DateTimeField(default=timezone.now, help_text="When the provider last told something new.")
    estimated_nano_dollars = models.BigIntegerField(null=True, help_text="What the ledger held before the bill.")
    compared_at = models.DateTimeField(null=True, help_text="When the ledger was brought to the bill.")
    corrections = models.PositiveIntegerField(default=0, help_text="How often the ledger was brought to the bill.")

    objects = TenantManager.from_queryset(BilledHourQuerySet)()

    class Meta:
        ordering = ["-begins_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "deployment_name", "begins_at"], name="one_bill_per_deployment_and_hour"
            )
        ]
        indexes = [
            models.Index(fields=["begins_at"], name="billed_hours_by_time"),
            models.Index(fields=["tenant", "deployment"], name="billed_hours_of_deployment"),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_name}, {self.begins_at:%Y-%m-%d %H:%M}"

    @property
    def ends_at(self) -> datetime.datetime:
        return self.begins_at + HOUR

    def take_lines(self, lines: dict[str, int]) -> bool:
        """Take over what was read; return whether that is news."""
        known = {**self.lines, **lines}
        if known == self.lines:
            return False
        self.lines, self.billed_nano_dollars = known, sum(known.values())
        self.told_at, self.compared_at = timezone.now(), None
        return True

    def become_compared(self, *, estimated: int) -> None:
        self.estimated_nano_dollars, self.compared_at = estimated, timezone.now()
        self.corrections += 1
        self.save(update_fields=["estimated_nano_dollars", "compared_at", "corrections"])
