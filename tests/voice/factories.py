"""Functions that build agents, places and calls in the entered tenant."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.utils import timezone

from agents.models import Agent, AgentVersion
from provisioning.models import Deployment, Pool
from tenants.ownership import entered_tenant_id
from voice.models import Call, CallLease

RATE_NANO_DOLLARS_PER_SECOND = 13_100


def create_agent(
    *,
    slug: str = "front-desk",
    prompt: str = "",
    tools: tuple[str, ...] = (),
    more: dict[str, Any] | None = None,
    **fields: Any,
) -> Agent:
    """Create an agent with a live version.

    Args:
        prompt: `mode: NAME` tells the scripted worker what to do.
        more: further keys of the configuration.
    """
    config = {
        "name": "Front desk",
        "engine": "cascade",
        "voice": "heart",
        "prompt": prompt,
        "greeting": "Hello.",
        "facts": [],
        "intents": [],
        "tools": list(tools),
        "goodbye": "Goodbye.",
        "hand_off": "Somebody will call back.",
        **(more or {}),
    }
    agent = Agent.objects.create(slug=slug, name="Front desk", vertical="salon", draft=config, **fields)
    version = AgentVersion.objects.create(agent=agent, number=1, config=config, engine="cascade")
    agent.live_version = version
    agent.save()
    return agent


def create_deployment(
    *, port: int | None = None, name: str | None = None, worker: str = "cascade", **pool_fields: Any
) -> Deployment:
    """Create a pool with a ready deployment of the scripted backend, at a scripted worker's port."""
    pool = Pool.objects.create(backend="scripted", worker=worker, **pool_fields)
    return Deployment.objects.create(
        pool=pool,
        name=name or f"scripted-{port}",
        backend="scripted",
        worker=worker,
        region=pool.region,
        spec={},
        spec_hash=uuid.uuid4().hex[:16],
        rate_nano_dollars_per_second=RATE_NANO_DOLLARS_PER_SECOND,
        state=Deployment.State.READY,
        ready_at=timezone.now(),
    )


def create_call(*, agent: Agent, quiet_seconds: float = 0, **fields: Any) -> Call:
    """Create a live call whose last checkpoint is so long ago, with its line."""
    at = timezone.now() - datetime.timedelta(seconds=quiet_seconds)
    call = Call.objects.create(
        agent=agent,
        version=agent.live_version,
        **{"status": Call.Status.LIVE, "started_at": at, "last_checkpoint_at": at, "duration_ms": 4200, **fields},
    )
    CallLease.objects.create(call_id=call.id, expires_at=at + datetime.timedelta(seconds=35))
    assert call.tenant_id == entered_tenant_id()
    return call
