"""The days of a tenant that moves to another time zone, while calls end."""

from __future__ import annotations

import asyncio
import datetime

import psycopg
import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone

from billing.sealing import seal_ledgers
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.voice.factories import create_agent, create_call
from voice.calls import end_call
from voice.days import change_time_zone
from voice.models import CallDay, EndReason, LedgerDay
from voice.reconciliation import differences
from voice.tasks import roll_up_ledgers, sweep

LATE = datetime.datetime(2026, 3, 1, 2, 30, tzinfo=datetime.UTC)
"""The day before, in New York."""


def move(tenant: Tenant, time_zone: str, actor: User) -> None:
    with enter_tenant(tenant.id):
        change_time_zone(Tenant.objects.get(pk=tenant.pk), time_zone, actor=actor)


def told(tenant: Tenant) -> list[str]:
    with enter_tenant(tenant.id):
        return [f"{each.what} {each.sentence}" for each in differences()]


def test_all_days_are_made_anew_in_the_other_zone(acme: Tenant, rival: Tenant, alice: User) -> None:
    for tenant in (acme, rival):
        with enter_tenant(tenant.id):
            create_call(agent=create_agent(), started_at=LATE, last_checkpoint_at=LATE)
    asyncio.run(sweep(window_seconds=60))
    seal_ledgers(timezone.now() + datetime.timedelta(hours=1))
    roll_up_ledgers()
    move(acme, "America/New_York", alice)
    for tenant, day in ((acme, 28), (rival, 1)):
        with enter_tenant(tenant.id):
            for model in (CallDay, LedgerDay):
                assert {row.day_date.day for row in model.objects.all()} == {day}
        assert told(tenant) == []
    with enter_tenant(acme.id):
        entry = AuditEntry.objects.get(action="tenant.time_zone_changed")
        assert entry.actor == alice and entry.details == {"from": "UTC", "to": "America/New_York"}


def test_a_zone_that_is_none_changes_nothing(acme: Tenant, alice: User) -> None:
    with pytest.raises(ValidationError, match="is not a time zone"):
        move(acme, "Mars/Olympus", alice)
    with enter_tenant(acme.id):
        assert Tenant.objects.get(pk=acme.pk).time_zone == "UTC"


def test_a_call_that_ends_meanwhile_is_in_its_day_once(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        call = create_call(agent=create_agent(), started_at=LATE, last_checkpoint_at=LATE)

    async def end_while_the_tenant_moves() -> None:
        async with await psycopg.AsyncConnection.connect(settings.DATABASE_OPERATOR_URL) as connection:
            await end_call(
                connection,
                call_id=call.id,
                tenant_id=acme.id,
                epoch=call.epoch,
                reason=EndReason.GATEWAY_LOST,
                close_code=None,
                ended_at=None,
            )
            moving = asyncio.create_task(asyncio.to_thread(move_and_close))
            await asyncio.sleep(0.5)
            assert not moving.done()
            await connection.commit()
            await asyncio.wait_for(moving, 10)

    def move_and_close() -> None:
        try:
            move(acme, "America/New_York", alice)
        finally:
            connections.close_all()  # this thread's

    asyncio.run(end_while_the_tenant_moves())
    with enter_tenant(acme.id):
        assert [day.day_date.day for day in CallDay.objects.all()] == [28]
    assert told(acme) == []
