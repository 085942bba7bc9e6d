"""The `start` message: who the worker is to be in one call."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from opentelemetry import propagate
from psycopg_pool import AsyncConnectionPool

from agents.start import agent_document
from content import service_keys
from gpu_workers.protocol import Limits, Service, Start, ToolsEndpoint
from tenants.scope import enter_tenant_async
from voice.admission import Admitted
from voice.call_tokens import issue_call_token
from voice.options import Options

PARTS = ("stt", "tts")
"""Keys of an agent's configuration that can ask for a worker of another pool, and that worker's kind."""
POOLED = "kyutai"


def parts_of(config: Mapping[str, Any]) -> list[str]:
    """Return the kinds of worker that a cascade is to use beside its own."""
    if config.get("engine") != "cascade":
        return []
    model = {"enabled": True, "source": "own", **config.get("llm", {})}
    kinds = [kind for kind in PARTS if config.get(kind, "own") == POOLED]
    return [*kinds, "llm"] if model["enabled"] and model["source"] == "pool" else kinds


async def services_of(pool: AsyncConnectionPool[Any], admitted: Admitted, options: Options) -> dict[str, Service]:
    """Return the managed services that a call's agent uses, with the tenant's keys."""
    chosen = service_keys.services_of(admitted.config)
    if not chosen:
        return {}
    async with asyncio.timeout(options.database_seconds), pool.connection() as connection, connection.transaction():
        await enter_tenant_async(connection, admitted.tenant_id)
        keys = await service_keys.read_service_keys(connection, admitted.tenant_id, list(chosen.values()))
    return {part: Service(name, keys.get(name, "")) for part, name in chosen.items()}


def start_of(admitted: Admitted, options: Options, services: Mapping[str, Service]) -> Start:
    """Return what the worker of an opened call is told first."""
    trace: dict[str, str] = {}
    propagate.inject(trace)
    now = datetime.datetime.now(ZoneInfo(admitted.time_zone))
    return Start(
        call_id=str(admitted.call_id),
        agent=agent_document(admitted.config, business_name=admitted.tenant_name),
        business={
            "name": admitted.tenant_name,
            "time_zone": admitted.time_zone,
            "now": now.isoformat(timespec="seconds"),
        },
        tools_endpoint=ToolsEndpoint(
            url=f"{options.internal_url}/internal/calls/{admitted.call_id}/tools",
            token=issue_call_token(call_id=admitted.call_id, tenant_id=admitted.tenant_id),
        ),
        limits=Limits(
            max_seconds=admitted.max_seconds,
            warn_before_seconds=warn_before_seconds(admitted.max_seconds, options),
        ),
        trace=trace,
        services=dict(services),
    )


def warn_before_seconds(max_seconds: int, options: Options) -> int:
    """Return how long before its limit a call's agent is told to wrap up: less in a call that is short anyway."""
    return min(options.warn_before_seconds, max_seconds // 4)
