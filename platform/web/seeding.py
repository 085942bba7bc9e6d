"""What a demo installation holds: an operator, businesses of several trades with their agents, and a month of calls.

Everything is made through the functions that pages and the gateway use. What is there already stays as it is.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import uuid
from typing import Any

import psycopg
from django.conf import settings
from django.utils import timezone

from agents import scheduling
from agents.catalog import templates_by_slug
from agents.contacts import keep_contact
from agents.models import Agent, Service
from agents.versions import create_agent_from_template, publish
from billing.accounts import open_account
from content.models import TranscriptLine
from gpu_workers.protocol import CloseCode
from provisioning.models import Deployment, Pool
from provisioning.pools import create_pool
from tenants.lookups import house_tenant_id, slug_is_taken
from tenants.models import Membership, Role, Tenant, User
from tenants.scope import enter_tenant
from voice.calls import end_call
from voice.models import Call, EndReason, Session, Turn

OPERATOR = "operator@warmline.example"
OWNER = "owner@demo.example"
VIEWER = "viewer@demo.example"

HISTORY_DAYS = 28
BUSINESSES = (
    # slug, name, time zone, plan, template, calls of history
    ("demo", "Mill Lane Salon", "America/New_York", "growth", "salon-front-desk", 220),
    ("riverside-clinic", "Riverside Clinic", "America/Chicago", "scale", "clinic-reception", 90),
    ("harbour-homes", "Harbour Homes", "Europe/London", "starter", "viewings-desk", 40),
    ("blue-door", "The Blue Door", "Europe/Paris", "starter", "restaurant-host", 50),
    ("swift-plumbing", "Swift Plumbing", "America/Denver", "growth", "plumber-dispatch", 60),
)
SHOWN_TEMPLATES = ("salon-front-desk", *(template for *_, template, _ in BUSINESSES[1:]), "product-desk")
"""Of the agents that visitors of the home page can talk to, one for each trade."""
SHARED_POOL = {
    "worker": "cascade",
    "backend": "local",
    "region": "local",
    "is_shared": True,
    "min_containers": 1,
    "max_containers": 2,
    "sessions_per_container": 4,
    "scaledown_window_seconds": 120,
}
OWN_POOL = {**SHARED_POOL, "is_shared": False, "min_containers": 0, "max_containers": 2, "scaledown_window_seconds": 60}


def seed(password: str, *, history: bool = True, say: Any = print) -> None:
    """Fill an installation. `password`: of the three people who can sign in."""
    operator = _user(OPERATOR, password, operator=True)
    owner, viewer = _user(OWNER, password), _user(VIEWER, password)
    if house_tenant_id() is None:
        _open_house(operator)
        say("made the operator's own tenant, its shared workers and the public demo")
    for slug, name, time_zone, plan, template, calls in BUSINESSES:
        if slug_is_taken(slug):
            continue
        tenant = open_account(name=name, owner=owner, time_zone=time_zone, plan=plan, slug=slug)
        with enter_tenant(tenant.id):
            Membership.objects.create(user=viewer, role=Role.VIEWER)
            agent = _open_business(tenant, template, owner)
        if history:
            _tell_history(tenant, agent, calls)
        say(f"made {name} with an agent{f' and {calls} calls' if history else ''}")


def _user(email: str, password: str, *, operator: bool = False) -> User:
    found = User.objects.filter(email=email).first()
    if found is not None:
        return found
    create = User.objects.create_superuser if operator else User.objects.create_user
    return create(email, password)


def _open_house(operator: User) -> None:
    house = open_account(name="Warmline demo", owner=operator, plan="house", slug="warmline-demo", is_house=True)
    with enter_tenant(house.id):
        create_pool(actor=operator, **SHARED_POOL)
        for slug in SHOWN_TEMPLATES:
            publish(
                agent=create_agent_from_template(template=templates_by_slug()[slug], actor=operator), actor=operator
            )


def _open_business(tenant: Tenant, template: str, owner: User) -> Agent:
    """Make a business's agent, pool and calendar. The agent of tenant `demo` is called `demo`."""
    slug = "demo" if tenant.slug == "demo" else ""
    agent = create_agent_from_template(template=templates_by_slug()[template], actor=owner, slug=slug)
    publish(agent=agent, actor=owner, note="From the catalogue")
    agent.refresh_from_db()
    if tenant.slug == "demo":
        create_pool(actor=owner, **OWN_POOL)
    _fill_calendar()
    return agent


def _fill_calendar() -> None:
    """Book a few people into the coming days, where there is something to book."""
    service = Service.objects.first()
    if service is None:
        return
    now = timezone.now()
    free = list(scheduling.free_times(service, first=now, last=now + datetime.timedelta(days=9), now=now))
    people = [("Anna Smith", "555 010 1234"), ("Ben Okafor", "555 010 2345"), ("Chloe Martin", "555 010 3456")]
    for (name, phone), at in zip(people, free[3::19], strict=False):
        contact = keep_contact(name=name, phone=phone)
        scheduling.book(service=service, contact=contact, starts_at=at, now=now)


# --- a month of calls -------------------------------------------------------------------------------------------------
SCRIPT = (
    ("agent", "Hello, this is {business}. How can I help you?"),
    ("caller", "Hi, when are you open tomorrow?"),
    ("agent", "We open at nine in the morning. Is there anything else I can help you with?"),
    ("caller", "Yes, I would like to come by. Could you have somebody call me back?"),
    ("agent", "I will ask somebody to call you back."),
    ("caller", "Thank you, that's all."),
    ("agent", "Thank you for calling {business}. Goodbye."),
)


def _tell_history(tenant: Tenant, agent: Agent, count: int) -> None:
    """Write calls of the last weeks, each ended by the function that the gateway ends calls with."""
    chance = random.Random(tenant.slug)  # the same history at every installation
    with enter_tenant(tenant.id):
        deployment = _past_deployment(tenant)
        plans = [_plan_call(tenant, agent, deployment, chance) for _ in range(count)]
        Call.objects.bulk_create([plan["call"] for plan in plans])
        Session.objects.bulk_create([plan["session"] for plan in plans])
        Turn.objects.bulk_create([turn for plan in plans for turn in plan["turns"]])
        TranscriptLine.objects.bulk_create([line for plan in plans for line in plan["lines"]])
    asyncio.run(_end_calls(tenant.id, [(plan["call"], plan["ended_at"], plan["reason"]) for plan in plans]))


def _past_deployment(tenant: Tenant) -> Deployment:
    """A deployment that is no more, which the calls of the past were served by; on a pool that is switched off."""
    pool = Pool.objects.filter(worker="cascade").first()
    if pool is None:
        pool = Pool.objects.create(**{**OWN_POOL, "is_enabled": False})
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


def _plan_call(tenant: Tenant, agent: Agent, deployment: Deployment, chance: random.Random) -> dict[str, Any]:
    """Make one call of the past with its session, turns and transcript, not yet written."""
    age = datetime.timedelta(
        days=min(chance.expovariate(1 / 9), HISTORY_DAYS - 1),
        hours=chance.uniform(2, 10),
        minutes=chance.uniform(0, 59),
    )
    started_at = timezone.now() - age
    boot, boot_ms = chance.choices(
        [("warm", None), ("restored", chance.randint(45, 130)), ("cold", chance.randint(2400, 4200))], [80, 17, 3]
    )[0]
    setup_ms = chance.randint(6, 22)
    reserve_ms = chance.randint(2, 9) + (boot_ms or 0)
    connect_ms = chance.randint(8, 30)
    ready_ms = setup_ms + reserve_ms + connect_ms + 2
    reason = chance.choices([EndReason.CALLER_HUNG_UP, EndReason.AGENT_HUNG_UP, EndReason.WORKER_LOST], [60, 37, 3])[0]
    said = SCRIPT[: 1 + 2 * chance.randint(1, 3)]
    duration_ms = chance.randint(4000, 7000) * len(said)
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
            text=text.format(business=tenant.name),
            at_ms=ready_ms + position * step,
        )
        for position, (role, text) in enumerate(said)
    ]
    turns = [_plan_turn(call, index, ready_ms + 2 * index * step, chance) for index in range(len(said) // 2 + 1)]
    return {"call": call, "session": session, "turns": turns, "lines": lines, "ended_at": ended_at, "reason": reason}


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
                    close_code=CloseCode.NORMAL,
                    ended_at=ended_at,
                )
