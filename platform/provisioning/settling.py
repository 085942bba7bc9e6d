"""Settling containers: who pays for their idle time and their cold start, to the nano-dollar.

A session's active cost is in the ledger since it ended, as an estimate. Here a stretch of a container's life is shared
out exactly: what the estimate was off by comes as an adjustment, shares of idle time and cold start as further entries.
Each entry is in the hour that it was spent in, so that hours can be compared with the provider's bill (`correcting`).
Sessions may be of any tenant: this runs as the operator.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Any

from django.db import connections
from django.utils import timezone

from provisioning.costs import Interval, Settlement, settle
from provisioning.models import Container, CostEntry
from tenants.scope import atomic, enter_operator

ENTRIES_LATE = datetime.timedelta(minutes=3)
"""The end of a call whose gateway died is written that long after it."""
LONGEST_CALL = datetime.timedelta(hours=1)
ALL_ENTERED = LONGEST_CALL + ENTRIES_LATE
"""What was said so long ago is in the ledger, though the call went on and its gateway died."""
STRETCH = datetime.timedelta(minutes=10)
"""Containers that run on and on are settled up to where all calls have ended, in stretches of at least this length."""

HOUR = datetime.timedelta(hours=1)
MOMENT = datetime.timedelta(microseconds=1)

DUE = """
    SELECT EXISTS (
        SELECT 1 FROM provisioning_container
        WHERE NOT is_settled
            AND CASE WHEN stopped_at IS NULL THEN coalesce(settled_until, started_at) <= %(settled_before)s
                ELSE stopped_at <= %(ended_before)s END
    )
"""


def settle_containers(at: datetime.datetime | None = None) -> int:
    """Settle what can be settled now, and return of how many containers."""
    at = at or timezone.now()
    if not _something_is_due(at):
        return 0
    with enter_operator("beat", reason="settle containers"):
        due = [
            container.pk
            for container in Container.objects.settleable().order_by("started_at")
            if _settleable_until(container, at) is not None
        ]
        for container_id in due:
            with atomic():
                # Another process may have settled it meanwhile.
                container = (
                    Container.objects.select_for_update(of=("self",)).select_related("deployment").get(pk=container_id)
                )
                if not container.is_settled and (until := _settleable_until(container, at)) is not None:
                    _settle(container, until)
    return len(due)


def _something_is_due(at: datetime.datetime) -> bool:
    """Look before the operator's scope is entered, which is logged each time. See also `_settleable_until`."""
    with connections["operator"].cursor() as cursor:
        cursor.execute(DUE, {"ended_before": at - ENTRIES_LATE, "settled_before": at - ALL_ENTERED - STRETCH})
        return cursor.fetchone()[0]


def _settleable_until(container: Container, at: datetime.datetime) -> datetime.datetime | None:
    """Return up to where all of a container's sessions are in the ledger; None where that is too little to settle."""
    if container.stopped_at is not None:
        return container.stopped_at if container.stopped_at + ENTRIES_LATE <= at else None
    until = at - ALL_ENTERED
    return until if until - (container.settled_until or container.started_at) >= STRETCH else None


def _settle(container: Container, until: datetime.datetime) -> None:
    rate = container.deployment.rate_nano_dollars_per_second
    begin = container.settled_until or container.started_at
    end = max(begin, until)
    whole = Interval(_since_start_ms(container, begin), _since_start_ms(container, end))
    is_last = container.stopped_at is not None and until >= container.stopped_at
    sessions = {entry.pk: entry for entry in _active_entries(container)}
    held = {key: _held(container, entry) for key, entry in sessions.items()}
    entries: list[CostEntry] = []
    for piece_begin, piece_end in _hours(begin, end):
        piece = Interval(_since_start_ms(container, piece_begin), _since_start_ms(container, piece_end))
        settlement = settle(
            stretch=piece,
            ready_ms=_ready_ms(container, held, whole),
            sessions=held,
            rate_nano_dollars_per_second=rate,
            shared_over=whole,
        )
        last_end_ms = None if is_last and piece_end == end else piece.end_ms
        made = _shares(sessions, held, piece.start_ms, last_end_ms, settlement, at=piece_end - MOMENT)
        made += _unserved(container, settlement, at=piece_end - MOMENT)
        for entry in made:
            entry.idempotency_key = f"settled:{container.pk}:{piece.start_ms}:{entry.idempotency_key}"
        entries += made
    for entry in entries:
        entry.deployment_id = container.deployment_id
        entry.pool_id = container.deployment.pool_id
        entry.container = container.name
        entry.rate_nano_dollars_per_second = rate
    CostEntry.objects.bulk_create(entries)
    container.become_settled(until)


def _ready_ms(container: Container, held: dict[uuid.UUID, Interval], whole: Interval) -> int:
    """Return when a container could talk: no later than when it first gave a place, whatever was seen of it."""
    seen_ms = whole.end_ms if container.ready_at is None else _since_start_ms(container, container.ready_at)
    return min([seen_ms, *(interval.start_ms for interval in held.values() if interval.start_ms >= 0)])


def _hours(begin: datetime.datetime, end: datetime.datetime) -> Iterator[tuple[datetime.datetime, datetime.datetime]]:
    """Yield the pieces of a stretch of time that lie in different hours; at least one, which may be empty."""
    while (following := hour_of(begin) + HOUR) < end:
        yield begin, following
        begin = following
    yield begin, end


def hour_of(at: datetime.datetime) -> datetime.datetime:
    """Return when the hour began in which a moment lies. Providers bill by hours of UTC."""
    return at.astimezone(datetime.UTC).replace(minute=0, second=0, microsecond=0)


def _active_entries(container: Container) -> list[CostEntry]:
    """Return those that no earlier stretch has settled whole: a container may serve for months."""
    entries = CostEntry.objects.filter(
        deployment_id=container.deployment_id,
        container=container.name,
        part=CostEntry.Part.ACTIVE,
        source=CostEntry.Source.ESTIMATE,
    )
    if container.settled_until is not None:
        entries = entries.filter(occurred_at__gt=container.settled_until)
    return list(entries.order_by("occurred_at", "pk"))


def _shares(
    sessions: dict[uuid.UUID, CostEntry],
    held: dict[uuid.UUID, Interval],
    begin_ms: int,
    end_ms: int | None,
    settlement: Settlement[uuid.UUID],
    *,
    at: datetime.datetime,
) -> list[CostEntry]:
    entries = []
    for key, session in sessions.items():
        # A session that goes on from one stretch into the next has its estimate taken off in the first one, and one
        # that began after the container was last seen in the last one, which has no end.
        session_ms = max(held[key].start_ms, 0)
        begins_here = begin_ms <= session_ms and (end_ms is None or session_ms < end_ms)
        taken_off = session.nano_dollars if begins_here else 0
        is_of_this_hour = hour_of(session.occurred_at) == hour_of(at)
        amounts = [
            (CostEntry.Part.ADJUSTMENT, "", at, settlement.active.get(key, 0) - (taken_off if is_of_this_hour else 0)),
            (CostEntry.Part.COLD_START, "", at, settlement.cold_start.get(key, 0)),
            (CostEntry.Part.IDLE_WARM, "", at, settlement.idle.get(key, 0)),
        ]
        if not is_of_this_hour:
            amounts.append((CostEntry.Part.ADJUSTMENT, ":estimate", session.occurred_at, -taken_off))
        entries += [
            CostEntry(
                tenant_id=session.tenant_id,
                call_id=session.call_id,
                session_id=session.session_id,
                part=part,
                nano_dollars=amount,
                occurred_at=occurred_at,
                idempotency_key=f"{session.session_id}:{part}{what}",
            )
            for part, what, occurred_at, amount in amounts
            if amount
        ]
    return entries


def _unserved(container: Container, settlement: Settlement[Any], *, at: datetime.datetime) -> list[CostEntry]:
    amounts = {
        CostEntry.Part.COLD_START: settlement.unserved_cold_start,
        CostEntry.Part.IDLE_WARM: settlement.unserved_idle,
    }
    return [
        CostEntry(
            tenant_id=container.tenant_id,
            part=part,
            nano_dollars=amount,
            occurred_at=at,
            idempotency_key=f"pool:{part}",
        )
        for part, amount in amounts.items()
        if amount
    ]


def _held(container: Container, entry: CostEntry) -> Interval:
    end_ms = _since_start_ms(container, entry.occurred_at)
    return Interval(end_ms - (entry.milliseconds or 0), end_ms)


def _since_start_ms(container: Container, at: datetime.datetime) -> int:
    return (at - container.started_at) // datetime.timedelta(milliseconds=1)
