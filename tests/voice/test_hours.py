"""Calls added up by the hour, and all of them together."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice.factories import create_agent, create_call
from voice.models import Call, EndReason, Turn

HOUR = datetime.datetime(2026, 11, 3, 14, tzinfo=datetime.UTC)


def create_ended_call(agent: Any, *, minute: int, turns_ms: tuple[int | None, ...] = (), **fields: Any) -> Call:
    call = create_call(
        agent=agent,
        status=Call.Status.ENDED,
        started_at=HOUR + datetime.timedelta(minutes=minute),
        turns_count=len(turns_ms),
        **{"end_reason": EndReason.CALLER_HUNG_UP, "duration_ms": 60_000, "cost_nano_dollars": 1_000, **fields},
    )
    for index, turn_ms in enumerate(turns_ms):
        Turn.objects.create(call=call, index=index, at_ms=0, turn_ms=turn_ms)
    return call


def about(duration_ms: int) -> Any:
    """As near as a bucket's middle is."""
    return pytest.approx(duration_ms, rel=0.03)


def test_each_hour_and_the_whole_are_added_up(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        agent = create_agent()
        create_ended_call(agent, minute=0, first_audio_ms=100, turns_ms=(None, 500, 700))
        create_ended_call(agent, minute=59, first_audio_ms=300, turns_ms=(600,), end_reason=EndReason.WORKER_LOST)
        create_ended_call(agent, minute=61, first_audio_ms=None, turns_ms=(2_000,))
        create_call(agent=agent, started_at=HOUR)  # live: it counts when it has ended
        hours, total = Call.objects.all().by_hour(datetime.UTC)

    assert len(hours) == 2
    first, second = hours[HOUR], hours[HOUR + datetime.timedelta(hours=1)]
    assert first == {
        "calls": 2, "failed_calls": 1, "duration_ms": 120_000, "minutes": 2.0, "turns": 4, "cost_nano_dollars": 2_000,
        "first_audio_ms_p50": about(100), "first_audio_ms_p95": about(300),
        "turn_ms_p50": about(600), "turn_ms_p95": about(700),
    }  # fmt: skip
    assert (second["first_audio_ms_p50"], second["turn_ms_p50"]) == (None, about(2_000))
    assert total["calls"] == 3
    assert (total["turn_ms_p50"], total["turn_ms_p95"]) == (about(600), about(2_000))
    assert (total["first_audio_ms_p50"], total["first_audio_ms_p95"]) == (about(100), about(300))


def test_no_calls_are_no_hours_and_a_whole_of_nothing(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        hours, total = Call.objects.all().by_hour(datetime.UTC)
    assert hours == {}
    assert total["calls"] == total["cost_nano_dollars"] == 0
    assert total["turn_ms_p95"] is None
