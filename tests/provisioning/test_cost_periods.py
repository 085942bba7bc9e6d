"""Costs by hour and day: each entry in the period it was spent in, also where a day has 23 or 25 hours."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from web.figures import SPANS

NEW_YORK = ZoneInfo("America/New_York")


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


def spend(nano_dollars: int, occurred_at: datetime.datetime, part: str = "active") -> None:
    CostEntry.objects.create(
        part=part,
        nano_dollars=nano_dollars,
        occurred_at=occurred_at,
        idempotency_key=f"{part} {occurred_at} {nano_dollars}",
    )


def test_an_entry_is_in_the_period_it_was_spent_in(acme: Tenant) -> None:
    days = SPANS["7d"].periods(at("2026-11-04T12:00"))  # the clocks went back on the first
    with enter_tenant(acme.id):
        spend(1, at("2026-10-28T23:59:59"))  # before all of them
        spend(2, at("2026-10-29T00:00:00"))
        spend(3, at("2026-10-31T23:59:59"))
        spend(5, at("2026-11-01T00:00:00"))
        spend(7, at("2026-11-01T23:59:59"))
        spend(11, at("2026-11-01T12:00:00"), part="idle_warm")
        spend(13, at("2026-11-04T11:59:59"))
        costs = CostEntry.objects.by_periods(days)
    assert [day.day for day in days] == [29, 30, 31, 1, 2, 3, 4]
    assert costs == [{"active": 2}, {}, {"active": 3}, {"active": 12, "idle_warm": 11}, {}, {}, {"active": 13}]


@pytest.mark.parametrize("span", ["24h", "7d"])
def test_periods_hold_what_was_spent_between_their_beginnings(acme: Tenant, span: str) -> None:
    now = at("2026-11-02T00:30")
    periods = SPANS[span].periods(now)
    expected: list[dict[str, int]] = [{} for _ in periods]
    with enter_tenant(acme.id):
        for minutes in range(0, 60 * 24 * 6, 37):
            spent_at = now.astimezone(datetime.UTC) - datetime.timedelta(minutes=minutes)
            spend(minutes + 1, spent_at)
            place = sum(period.astimezone(datetime.UTC) <= spent_at for period in periods) - 1
            if place >= 0:
                expected[place]["active"] = expected[place].get("active", 0) + minutes + 1
        assert CostEntry.objects.by_periods(periods) == expected
