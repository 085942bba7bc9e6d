"""Questions about many calls: what pages, commands and tasks ask."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from django.db.models import Aggregate, Count, Exists, Func, IntegerField, OuterRef, Q, Sum
from django.db.models.functions import TruncHour

from tenants.ownership import TenantQuerySet
from voice import buckets

SLOW_READY_MS = 800
SLOW_TURN_MS = 1400
"""The budgets of a call: slower ones are worth a look."""


class Percentile(Aggregate):
    """The duration under which `share` (0 to 1) of all are, in whole milliseconds."""

    function = "percentile_disc"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"

    def __init__(self, expression: Any, share: float, **extra: Any) -> None:
        super().__init__(expression, share=share, **extra)


class Bucket(Func):
    """The bucket (voice.buckets) of a duration in milliseconds."""

    template = buckets.BUCKET_SQL.replace("{ms}", "%(expressions)s")
    output_field = IntegerField()


@dataclasses.dataclass
class Hour:
    """What voice.buckets.summary asks for, of the calls that began in one hour."""

    calls: int
    failed_calls: int
    duration_ms: int
    turns: int
    cost_nano_dollars: int
    first_audio_histogram: list[int] = dataclasses.field(default_factory=lambda: [0] * buckets.COUNT)
    turn_histogram: list[int] = dataclasses.field(default_factory=lambda: [0] * buckets.COUNT)


class CallQuerySet(TenantQuerySet):
    def live(self) -> CallQuerySet:
        return self.exclude(status="ended")

    def ended(self) -> CallQuerySet:
        return self.filter(status="ended")

    def ended_well(self) -> CallQuerySet:
        from voice.models import GOOD_ENDS

        return self.ended().filter(end_reason__in=GOOD_ENDS)

    def ended_badly(self) -> CallQuerySet:
        from voice.models import GOOD_ENDS

        return self.ended().exclude(end_reason__in=GOOD_ENDS)

    def between(self, since: datetime.datetime, until: datetime.datetime) -> CallQuerySet:
        """Calls that began in [since, until)."""
        return self.filter(started_at__gte=since, started_at__lt=until)

    def of_agent(self, agent: Any) -> CallQuerySet:
        return self.filter(agent=agent)

    def slow(self) -> CallQuerySet:
        """Calls that were ready late, or had a turn over its budget."""
        from voice.models import Turn

        late = Turn.objects.filter(call_id=OuterRef("pk"), turn_ms__gt=SLOW_TURN_MS)
        return self.filter(Q(ready_ms__gt=SLOW_READY_MS) | Exists(late))

    def by_hour(self, zone: datetime.tzinfo) -> tuple[dict[datetime.datetime, dict[str, Any]], dict[str, Any]]:
        """Return a summary of the ended calls for each hour in which any began, and one of all of them.

        A summary is what voice.buckets.summary returns of days.
        """
        from voice.models import GOOD_ENDS, Turn

        ended = self.ended().order_by()
        hours = {
            row.pop("hour"): Hour(**row)
            for row in ended.values(hour=TruncHour("started_at", tzinfo=zone)).annotate(
                calls=Count("pk"),
                failed_calls=Count("pk", filter=~Q(end_reason__in=GOOD_ENDS)),
                duration_ms=Sum("duration_ms"),
                turns=Sum("turns_count"),
                cost_nano_dollars=Sum("cost_nano_dollars"),
            )
        }
        first_audio = ended.filter(first_audio_ms__isnull=False).values(
            hour=TruncHour("started_at", tzinfo=zone), bucket=Bucket("first_audio_ms")
        )
        for row in first_audio.annotate(count=Count("pk")):
            hours[row["hour"]].first_audio_histogram[row["bucket"]] = row["count"]
        turns = Turn.objects.order_by().filter(call__in=ended, turn_ms__isnull=False)
        for row in turns.values(hour=TruncHour("call__started_at", tzinfo=zone), bucket=Bucket("turn_ms")).annotate(
            count=Count("pk")
        ):
            hours[row["hour"]].turn_histogram[row["bucket"]] = row["count"]
        return {at: buckets.summary([hour]) for at, hour in hours.items()}, buckets.summary(list(hours.values()))

    def by_boot(self) -> dict[str, dict[str, Any]]:
        """Return `calls`, `ready_ms_p50` and `ready_ms_p95` for each boot kind."""
        rows = (
            self.order_by()
            .exclude(boot="")
            .values("boot")
            .annotate(
                calls=Count("pk"), ready_ms_p50=Percentile("ready_ms", 0.5), ready_ms_p95=Percentile("ready_ms", 0.95)
            )
        )
        return {row.pop("boot"): row for row in rows}


class CallDayQuerySet(TenantQuerySet):
    def between(self, since: datetime.date, until: datetime.date) -> CallDayQuerySet:
        """Days in [since, until]."""
        return self.filter(day_date__gte=since, day_date__lte=until)

    def by_day(self) -> list[dict[str, Any]]:
        """Return one summary per day, oldest first, with `day_date` (voice.buckets.summary says the rest)."""
        days: dict[datetime.date, list[Any]] = {}
        row: Any
        for row in self.order_by("day_date"):
            days.setdefault(row.day_date, []).append(row)
        return [{"day_date": day_date, **buckets.summary(rows)} for day_date, rows in days.items()]

    def total(self) -> dict[str, Any]:
        """Return one summary of all days (voice.buckets.summary)."""
        return buckets.summary(list(self))

    def by_agent(self) -> dict[Any, dict[str, Any]]:
        """Return a summary for each agent's id."""
        agents: dict[Any, list[Any]] = {}
        row: Any
        for row in self:
            agents.setdefault(row.agent_id, []).append(row)
        return {agent_id: buckets.summary(rows) for agent_id, rows in agents.items()}
