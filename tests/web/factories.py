"""Functions that build agents and whole calls as pages show them, in the entered tenant, through the journeys."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from django.db import connections
from django.utils import timezone

from agents import catalog
from agents.catalog import read_template
from agents.models import Agent
from agents.versions import create_agent_from_template, publish
from content.models import ToolRun, TranscriptLine
from provisioning.backends.contract import PrimingReport
from provisioning.models import Container, CostEntry, Deployment, Pool
from tenants.models import Role, Tenant, User
from tests import factories
from voice import statements
from voice.models import GOOD_ENDS, Call, Session, Turn

SALON = Path(catalog.__file__).parent / "salon" / "front_desk.yaml"


def add_developer(tenant: Tenant) -> User:
    """Add somebody who may change agents, pools and the calendar, and no people or keys."""
    dora = factories.create_user(email=f"dora@{tenant.slug}.example")
    factories.add_member(tenant=tenant, user=dora, role=Role.DEVELOPER)
    return dora


def create_agent(*, name: str = "Front desk", is_published: bool = True) -> Agent:
    """Make an agent of the salon's template, with its services and opening hours."""
    agent = create_agent_from_template(template=read_template(SALON), actor=None, name=name)
    if is_published:
        publish(agent=agent, actor=None)
        agent.refresh_from_db()
    return agent


def create_call(
    agent: Agent, *, turn_ms: tuple[int, ...] = (700, 900), minutes_ago: float = 5, is_live: bool = False, **fields: Any
) -> Call:
    """Make a call with a greeting, turns, what was said, a tool and its cost; an ended one counts for its day."""
    began = timezone.now() - datetime.timedelta(minutes=minutes_ago)
    ended_at = None if is_live else began + datetime.timedelta(seconds=42)
    fields = {
        "status": Call.Status.LIVE if is_live else Call.Status.ENDED,
        "started_at": began,
        "ended_at": ended_at,
        "end_reason": "" if is_live else "agent_hung_up",
        "setup_ms": 9,
        "reserve_ms": 262,
        "connect_ms": 41,
        "ready_ms": 314,
        "first_audio_ms": 430,
        "duration_ms": 42_000,
        "boot": "restored",
        "boot_ms": 174,
        "turns_count": len(turn_ms),
        "cost_nano_dollars": 0 if is_live else 428_400,
        "region": "local",
        **fields,
    }
    call = Call.objects.create(agent=agent, version=agent.live_version, **fields)
    session = Session.objects.create(
        call=call,
        container="acme-cascade-1",
        reserve_ms=262,
        connect_ms=41,
        active_ms=42_000,
        boot="restored",
        boot_ms=174,
        rate_nano_dollars_per_second=10_200,
    )
    _say(call, 0, 0, "agent", "Hello, this is Acme.")
    Turn.objects.create(call=call, index=0, at_ms=430)
    for index, whole_ms in enumerate(turn_ms, 1):
        Turn.objects.create(
            call=call,
            index=index,
            at_ms=5000 * index,
            turn_ms=whole_ms,
            end_of_turn_ms=300,
            stt_ms=150,
            llm_ttft_ms=20,
            tts_ttfb_ms=100,
            other_ms=whole_ms - 570,
        )
        _say(call, 2 * index - 1, index, "caller", f"Caller's words {index}.")
        _say(call, 2 * index, index, "agent", f"Agent's words {index}.")
    ToolRun.objects.create(
        call_id=call.pk,
        turn_index=1,
        name="book_appointment",
        arguments={"service": "haircut"},
        result={"alternatives": []},
        ok=False,
        error_code="slot_taken",
        duration_ms=14,
    )
    if not is_live:
        CostEntry.objects.create(
            call_id=call.pk,
            session_id=session.pk,
            part="active",
            milliseconds=42_000,
            rate_nano_dollars_per_second=10_200,
            nano_dollars=428_400,
            occurred_at=ended_at,
            idempotency_key=f"session:{session.pk}:active",
        )
        with connections["default"].cursor() as cursor:
            cursor.execute(statements.ADD_TO_DAY, {"id": call.pk, "good_ends": [reason.value for reason in GOOD_ENDS]})
    return call


def _say(call: Call, position: int, turn_index: int, role: str, text: str) -> None:
    TranscriptLine.objects.create(
        call_id=call.pk, position=position, turn_index=turn_index, role=role, text=text, at_ms=position * 1000
    )


def create_ready_pool(**fields: Any) -> tuple[Pool, Deployment, Container]:
    """Make a pool whose deployment is ready, with one restored container."""
    pool = Pool.objects.create(**{"min_containers": 1, **fields})
    deployment = Deployment.of_pool(pool)
    deployment.start_deploying()
    deployment.start_priming()
    deployment.become_ready(PrimingReport(boots=("cold",), boot_ms=(3480.0,)))
    container = Container.objects.create(
        deployment=deployment,
        name="acme-cascade-1",
        state="ready",
        boot="restored",
        boot_ms=174,
        sessions=2,
        started_at=timezone.now(),
        ready_at=timezone.now(),
    )
    return pool, deployment, container
