"""The ledger of what was spent."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import connections, models
from django.db.models.functions import Now
from django.utils import timezone

from tenants.ownership import TenantManager, TenantOwned, TenantQuerySet
from tenants.scope import current_alias, current_tenant_id

BY_PERIOD_OF_TENANT = """
    SELECT number, part, total
    FROM unnest(%(begins)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS period (begins, ends, number)
    CROSS JOIN LATERAL (
        SELECT part, sum(nano_dollars) AS total
        FROM provisioning_costentry
        WHERE tenant_id = %(tenant)s AND occurred_at >= begins AND occurred_at < ends
        GROUP BY part
    ) AS spent
"""


class CostEntryQuerySet(TenantQuerySet):
    def of_call(self, call_id: uuid.UUID) -> CostEntryQuerySet:
        return self.filter(call_id=call_id)

    def total(self) -> int:
        """Return the sum in nano-dollars."""
        return self.aggregate(total=models.Sum("nano_dollars"))["total"] or 0

    def since(self, at: datetime.datetime) -> CostEntryQuerySet:
        return self.filter(occurred_at__gte=at)

    def by_periods(self, beginnings: Sequence[datetime.datetime]) -> list[dict[str, int]]:
        """Return nano-dollars by part for each period: from its beginning to the next one's, the last up to now.

        Of one tenant each period is a stretch of the index that holds all that is added up. Of all tenants together the
        database looks each entry's period up in the list.
        """
        rows = self._by_period_of_tenant(beginnings) if current_tenant_id() else self._by_period(beginnings)
        periods: list[dict[str, int]] = [{} for _ in beginnings]
        for place, part, total in rows:
            periods[place - 1][part] = int(total)
        return periods

    def _by_period_of_tenant(self, beginnings: Sequence[datetime.datetime]) -> Iterable[tuple[int, str, int]]:
        begins = list(beginnings)
        ends = [*begins[1:], begins[-1] + datetime.timedelta(days=36_500)]
        with connections[current_alias()].cursor() as cursor:
            cursor.execute(BY_PERIOD_OF_TENANT, {"tenant": current_tenant_id(), "begins": begins, "ends": ends})
            return cursor.fetchall()

    def _by_period(self, beginnings: Sequence[datetime.datetime]) -> Iterable[tuple[int, str, int]]:
        number = models.Func(
            models.F("occurred_at"),
            models.Value(list(beginnings), output_field=ArrayField(models.DateTimeField())),
            function="width_bucket",
            output_field=models.IntegerField(),
        )
        return (
            self.since(beginnings[0])
            .order_by()
            .annotate(number=number)
            .values_list("number", "part")
            .annotate(total=models.Sum("nano_dollars"))
        )

    def by_pool(self) -> dict[uuid.UUID, int]:
        """Return nano-dollars for each pool's id."""
        rows = self.order_by().exclude(pool_id=None).values_list("pool_id").annotate(total=models.Sum("nano_dollars"))
        return {pool_id: int(total) for pool_id, total in rows}


class CostEntry(TenantOwned):
    """One amount that was spent for a call, or, where no call was served, for a pool. A correction is a further entry.

    The tenant is the one that called, or whose pool it is. A shared pool's rows are the operator's: hence plain ids.
    """

    class Part(models.TextChoices):
        ACTIVE = "active", "Talking"
        IDLE_WARM = "idle_warm", "Kept warm"
        COLD_START = "cold_start", "Cold start"
        MODEL = "model", "Language model"
        TELEPHONY = "telephony", "Telephone"
        ADJUSTMENT = "adjustment", "Adjustment"

    class Source(models.TextChoices):
        ESTIMATE = "estimate"
        PROVIDER = "provider", "The provider's bill"

    OF_CONTAINERS: ClassVar = (Part.ACTIVE, Part.IDLE_WARM, Part.COLD_START, Part.ADJUSTMENT)
    """What a backend's provider bills."""

    append_only: ClassVar[bool] = True
    SEALED_FIELDS: ClassVar[tuple[str, ...]] = (
        "id",
        "pool_id",
        "deployment_id",
        "container",
        "call_id",
        "session_id",
        "part",
        "milliseconds",
        "rate_nano_dollars_per_second",
        "nano_dollars",
        "source",
        "occurred_at",
        "recorded_at",
        "idempotency_key",
    )

    pool_id = models.UUIDField(null=True)
    deployment_id = models.UUIDField(null=True)
    container = models.CharField(max_length=120, blank=True, help_text="Its name.")
    call_id = models.UUIDField(null=True)
    session_id = models.UUIDField(null=True)
    part = models.CharField(max_length=12, choices=Part.choices)
    milliseconds = models.BigIntegerField(
        null=True, help_text="Active: how long the place was held before occurred_at."
    )
    rate_nano_dollars_per_second = models.BigIntegerField(null=True)
    nano_dollars = models.BigIntegerField()
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.ESTIMATE)
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)
    idempotency_key = models.CharField(max_length=160)

    objects = TenantManager.from_queryset(CostEntryQuerySet)()

    class Meta:
        ordering = ["occurred_at"]
        verbose_name_plural = "cost entries"
        constraints = [models.UniqueConstraint(fields=["tenant", "idempotency_key"], name="cost_once_per_key")]
        indexes = [
            models.Index(fields=["tenant", "call_id"], name="costs_of_call"),
            # With what overviews add up, so that they need not visit the rows.
            models.Index(fields=["tenant", "-occurred_at"], include=["part", "nano_dollars"], name="costs_by_time"),
            models.Index(fields=["container"], condition=models.Q(part="active"), name="costs_of_container"),
            models.Index(
                fields=["deployment_id", "occurred_at"], include=["source", "recorded_at"], name="costs_of_deployment"
            ),
            models.Index(fields=["tenant", "recorded_at"], name="costs_by_record"),
        ]

    def __str__(self) -> str:
        return f"{self.nano_dollars} nano-dollars, {self.part}"
