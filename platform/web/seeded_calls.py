"""A month of calls for a demo installation, each ended by the function that the gateway ends calls with."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import random
import uuid
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from django.conf import settings
from django.utils import timezone

from agents.models import Agent, Service
from content.models import ToolRun, TranscriptLine
from gpu_workers.protocol import CloseCode
from provisioning.models import Deployment, Pool
from tenants.models import Tenant
from tenants.scope import enter_tenant
from voice.calls import end_call
from voice.models import Call, EndReason, Session, Turn

HISTORY_DAYS = 28
GREETING = "Hello, this is {business}. How can I help you?"
ANNA = {"name": "Anna Smith", "phone": "+15550101234"}
ANNAS_NUMBER = "Anna Smith, five five five, oh one oh, one two three four."


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What the caller says, what the agent answers, and the tool that ran between: its name, arguments and result."""

    caller: str
    agent: str
    tool: tuple[str, dict[str, Any], dict[str, Any]] | None = None


GOODBYE = Exchange("No, that is all. Thank you.", "Thank you for calling {business}. Goodbye.")
HOURS = [
    Exchange("Hi, when are you open tomorrow?", "We open at nine in the morning. Is there anything else?"),
    GOODBYE,
]
BOOKING = [
    Exchange("I would like to book a {service}, please.", "Of course. What day and time suits you?"),
    Exchange(
        "Tomorrow at three in the afternoon.",
        "Tomorrow at three is free. May I have your name, and the best number to reach you?",
        ("check_availability", {"service": "{service}", "near": "tomorrow 15:00"}, {"free": ["15:00"]}),
    ),
    Exchange(ANNAS_NUMBER, "So that is a {service} tomorrow at three for Anna Smith. Shall I book it?"),
    Exchange(
        "Yes, please.",
        "You are booked: a {service} tomorrow at three. Is there anything else?",
        ("book_appointment", {"service": "{service}", **ANNA}, {"service": "{service}", "starts_at": "15:00"}),
    ),
    GOODBYE,
]
TAKEN = [
    Exchange(
        "Do you have a {service} free on Saturday at ten?",
        "Saturday at ten is taken. I could offer half past eleven, or two in the afternoon.",
        ("check_availability", {"service": "{service}", "near": "Saturday 10:00"}, {"free": ["11:30", "14:00"]}),
    ),
    Exchange("Oh, then I will call again.", "Please do. Thank you for calling {business}. Goodbye."),
]
MESSAGE = [
    Exchange("Could somebody call me back about a {service}?", "Of course. May I have your name and number?"),
    Exchange(
        ANNAS_NUMBER,
        "Thank you. Somebody will call you back. Is there anything else?",
        ("take_message", {"text": "Call back about a {service}.", **ANNA}, {"taken": True}),
    ),
    GOODBYE,
]
CONVERSATIONS = [*[HOURS] * 2, *[BOOKING] * 2, TAKEN, MESSAGE]
"""Some are held more often than others."""


def tell_history(tenant: Tenant, agent: Agent, count: int) -> None:
    """Write calls of the last weeks, each ended by the function that the gateway ends calls with."""
    chance = random.Random(tenant.slug)  # the same history at every installation
    with enter_tenant(tenant.id):
        deployment = _past_deployment(tenant)
        service = Service.objects.order_by("name").first()
        wanted = service.name if service else "visit"
        plans = [_plan_call(tenant, agent, deployment, wanted, chance) for _ in range(count)]
        Call.objects.bulk_create([plan["call"] for plan in plans])
        Session.objects.bulk_create([plan["session"] for plan in plans])
        Turn.objects.bulk_create([turn for plan in plans for turn in plan["turns"]])
        TranscriptLine.objects.bulk_create([line for plan in plans for line in plan["lines"]])
        ToolRun.objects.bulk_create([run for plan in plans for run in plan["runs"]])
    asyncio.run(_end_calls(tenant.id, [(plan["call"], plan["ended_at"], plan["reason"]) for plan in plans]))


def _past_deployment(tenant: Tenant) -> Deployment:
    """A deployment that is no more, which the calls of the past were served by; on a pool that is switched off."""
    pool = Pool.objects.filter(worker="cascade").first()
    if pool is None:
        pool = Pool.objects.create(worker="cascade", backend="local", region="local", is_enabled=False)
    past = timezone.now() - datetime.timedelta(hours=1)
    return Deployment.objects.create(
        pool=pool,
        name=f"{tenant.slug}-past",
        backend="local",
        worker="cascade",
        region="local",
        spec={},
        spec_hash=uuid.uuid5(tenant.id, "past").hex[:16],
        rate_nano_dollars_per_second=pool.rate_nano_dollars_per_second,
        state=Deployment.State.STOPPED,
        ready_at=past - datetime.timedelta(days=HISTORY_DAYS),
        stopped_at=past,
    )


def _moment(time_zone: str, chance: random.Random) -> datetime.datetime:
    """Choose when a call began: more of them lately, and about noon where the business is."""
    now = timezone.now().astimezone(ZoneInfo(time_zone))
    days = datetime.timedelta(days=int(chance.expovariate(1 / 9) % (HISTORY_DAYS - 1)))
    midnight = (now - days).replace(hour=0, minute=0, second=0, microsecond=0)
    moment = midnight + datetime.timedelta(hours=chance.triangular(7, 21, 12))
    is_past = moment < now - datetime.timedelta(hours=2)
    return moment if is_past else moment - datetime.timedelta(days=1)


def _plan_call(
    tenant: Tenant, agent: Agent, deployment: Deployment, wanted: str, chance: random.Random
) -> dict[str, Any]:
    """Make one call of the past with its session, turns, transcript and tools, not yet written."""
    started_at = _moment(tenant.time_zone, chance)
    boot, boot_ms = chance.choices(
        [("warm", None), ("restored", chance.randint(45, 130)), ("cold", chance.randint(2400, 4200))], [80, 17, 3]
    )[0]
    setup_ms = chance.randint(6, 22)
    reserve_ms = chance.randint(2, 9) + (boot_ms or 0)
    connect_ms = chance.randint(8, 30)
    ready_ms = setup_ms + reserve_ms + connect_ms + 2
    reason = chance.choices([EndReason.CALLER_HUNG_UP, EndReason.AGENT_HUNG_UP, EndReason.WORKER_LOST], [60, 37, 3])[0]
    exchanges = chance.choice(CONVERSATIONS)
    if reason is not EndReason.AGENT_HUNG_UP:  # the agent says goodbye; others may end in the middle
        exchanges = exchanges[: max(1, len(exchanges) - chance.randint(0, 2))]
    said = [("agent", GREETING)]
    for exchange in exchanges:
        said += [("caller", exchange.caller), ("agent", exchange.agent)]
    duration_ms = chance.randint(3500, 6000) * len(said)
    call = Call(
        id=uuid.uuid4(),
        tenant_id=tenant.id,
        agent=agent,
        version=agent.live_version,
        status=Call.Status.LIVE,
        channel=chance.choices(["browser", "api", "command"], [70, 25, 5])[0],
        region="local",
        pool_id=deployment.pool_id,
        deployment_id=deployment.id,
        started_at=started_at,
        admitted_at=started_at,
        last_checkpoint_at=started_at,
        setup_ms=setup_ms,
        reserve_ms=reserve_ms,
        connect_ms=connect_ms,
        ready_ms=ready_ms,
        first_audio_ms=ready_ms + chance.randint(60, 220),
        duration_ms=duration_ms,
        boot=boot,
        boot_ms=boot_ms,
        turns_count=len(said) // 2,
        audio_in_messages=duration_ms // 40,
        audio_in_bytes=duration_ms * 4,
        audio_out_messages=duration_ms // 90,
        audio_out_bytes=duration_ms * 3,
        gateway_ms_p50=0.2,
        gateway_ms_p99=0.9,
    )
    ended_at = started_at + datetime.timedelta(milliseconds=ready_ms + duration_ms)
    session = Session(
        tenant_id=tenant.id,
        call=call,
        pool_id=deployment.pool_id,
        deployment_id=deployment.id,
        container=f"{deployment.name}-{call.id.hex[:6]}",
        granted_at=started_at,
        reserve_ms=reserve_ms,
        connect_ms=connect_ms,
        active_ms=duration_ms + connect_ms,
        boot=boot,
        boot_ms=boot_ms,
        rate_nano_dollars_per_second=deployment.rate_nano_dollars_per_second,
    )
    step = duration_ms // len(said)
    lines = [
        TranscriptLine(
            tenant_id=tenant.id,
            call_id=call.id,
            position=position,
            turn_index=(position + 1) // 2,
            role=role,
            text=text.format(business=tenant.name, service=wanted),
            at_ms=ready_ms + position * step,
        )
        for position, (role, text) in enumerate(said)
    ]
    runs = [
        _plan_run(call, index, exchange.tool, wanted, chance)
        for index, exchange in enumerate(exchanges, 1)
        if exchange.tool
    ]
    turns = [_plan_turn(call, index, ready_ms + 2 * index * step, chance) for index in range(len(said) // 2 + 1)]
    return {
        "call": call,
        "session": session,
        "turns": turns,
        "lines": lines,
        "runs": runs,
        "ended_at": ended_at,
        "reason": reason,
    }


def _plan_run(
    call: Call, index: int, tool: tuple[str, dict[str, Any], dict[str, Any]], wanted: str, chance: random.Random
) -> ToolRun:
    def filled(document: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value.format(service=wanted) if isinstance(value, str) else value for key, value in document.items()
        }

    name, arguments, result = tool
    return ToolRun(
        tenant_id=call.tenant_id,
        call_id=call.id,
        turn_index=index,
        name=name,
        arguments=filled(arguments),
        result=filled(result),
        ok=True,
        duration_ms=chance.randint(4, 19),
        started_at=call.started_at + datetime.timedelta(seconds=8 * index),
    )


def _plan_turn(call: Call, index: int, at_ms: int, chance: random.Random) -> Turn:
    if index == 0:  # the greeting: nobody waited for an answer
        return Turn(tenant_id=call.tenant_id, call=call, index=0, at_ms=at_ms)
    parts = {
        "end_of_turn_ms": chance.randint(450, 480),
        "stt_ms": chance.randint(60, 190),
        "llm_ttft_ms": chance.randint(3, 25),
        "tts_ttfb_ms": chance.randint(25, 110),
        "other_ms": chance.randint(8, 45),
    }
    return Turn(tenant_id=call.tenant_id, call=call, index=index, at_ms=at_ms, turn_ms=sum(parts.values()), **parts)


async def _end_calls(tenant_id: uuid.UUID, calls: list[tuple[Call, datetime.datetime, EndReason]]) -> None:
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL, autocommit=True) as connection:
        for call, ended_at, reason in calls:
            async with connection.transaction():
                await end_call(
                    connection,
                    call_id=call.id,
                    tenant_id=tenant_id,
                    epoch=1,
                    reason=reason,
                    close_code=CloseCode.NORMAL if reason is not EndReason.WORKER_LOST else CloseCode.INTERNAL_ERROR,
                    ended_at=ended_at,
                )
