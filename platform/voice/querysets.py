"""Questions about many calls and tickets: what pages, commands and tasks ask."""

from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Aggregate, Count, Exists, F, OuterRef, Q, Sum
from django.db.models.functions import TruncHour
from django.utils import timezone

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

    def summary(self) -> dict[str, Any]:
        """Return what voice.buckets.summary returns of days, measured on the ended ones of these calls themselves."""
        from voice.models import Turn

        ended = self.ended().order_by()
        turns = Turn.objects.filter(call__in=ended)
        return _finished({**ended.aggregate(**_figures_of_calls()), **turns.aggregate(**_figures_of_turns())})

    def by_hour(self, zone: ZoneInfo) -> dict[datetime.datetime, dict[str, Any]]:
        """Return such a summary for each hour in which calls began."""
        from voice.models import Turn

        ended = self.ended().order_by()
        hours: dict[datetime.datetime, dict[str, Any]] = {
            row.pop("hour"): row
            for row in ended.annotate(hour=TruncHour("started_at", tzinfo=zone)).values("hour").annotate(
                **_figures_of_calls()
            )
        }
        turns = Turn.objects.order_by().filter(call__in=ended)
        for row in turns.annotate(hour=TruncHour("call__started_at", tzinfo=zone)).values("hour").annotate(
            **_figures_of_turns()
        ):
            hours[row.pop("hour")].update(row)
        return {hour: _finished(row) for hour, row in hours.items()}

    def by_boot(self) -> dict[str, dict[str, Any]]:
        """Return `calls`, `ready_ms_p50` and `ready_ms_p95` for each boot kind."""
        rows = self.order_by().exclude(boot="").values("boot").annotate(
            calls=Count("pk"), ready_ms_p50=Percentile("ready_ms", 0.5), ready_ms_p95=Percentile("ready_ms", 0.95)
        )
        return {row.pop("boot"): row for row in rows}

    def without_checkpoint_since(self, at: datetime.datetime) -> CallQuerySet:
        """Unfinished calls that no gateway has written since."""
        return self.live().filter(last_checkpoint_at__lt=at)


def _figures_of_calls() -> dict[str, Aggregate]:
    from voice.models import GOOD_ENDS

    return {
        "calls": Count("pk"),
        "failed_calls": Count("pk", filter=~Q(end_reason__in=GOOD_ENDS)),
        "total_ms": Sum(F("duration_ms"), default=0),
        "turns": Sum(F("turns_count"), default=0),
        "total_cost": Sum(F("cost_nano_dollars"), default=0),
        "first_audio_ms_p50": Percentile("first_audio_ms", 0.5),
        "first_audio_ms_p95": Percentile("first_audio_ms", 0.95),
    }


def _figures_of_turns() -> dict[str, Aggregate]:
    return {"turn_ms_p50": Percentile("turn_ms", 0.5), "turn_ms_p95": Percentile("turn_ms", 0.95)}


def _finished(row: dict[str, Any]) -> dict[str, Any]:
    total_ms, total_cost = int(row.pop("total_ms")), int(row.pop("total_cost"))
    row = {"turn_ms_p50": None, "turn_ms_p95": None, **row}
    return {
        **row, "duration_ms": total_ms, "minutes": round(total_ms / 60_000, 1), "cost_nano_dollars": total_cost,
    }


class TicketQuerySet(TenantQuerySet):
    def expired(self) -> TicketQuerySet:
        return self.filter(expires_at__lt=timezone.now())


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
