"""Telling open pages about calls, through the channel layer, without ever delaying a call.

Groups: `calls.TENANT_ID` for a tenant's pages, `calls.fleet` for the operator's.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import structlog
from channels.layers import get_channel_layer

FLEET_GROUP = "calls.fleet"
# Pages that miss an update show it when they are next loaded.
SEND_TIMEOUT_SECONDS = 2.0
MOST_GATHERED = 1000
GATHERED_SECONDS = 0.1
"""What happens to calls in so short a time is told together: a message for each would cost more than the calls do."""

log = structlog.get_logger(__name__)
_gathered: dict[str, list[dict[str, Any]]] = {}
"""By group."""
_telling: set[asyncio.Task[None]] = set()


def group_of(tenant_id: uuid.UUID | str) -> str:
    return f"calls.{tenant_id}"


def announce(tenant_id: uuid.UUID, event: str, call: dict[str, Any]) -> None:
    """Tell open pages soon that a call was `opened`, had a `turn`, or `ended`. Returns at once.

    `call` is a JSON object with the call's id and what changed.
    """
    if not _gathered:
        task = asyncio.create_task(_tell_gathered(), name="announce")
        _telling.add(task)
        task.add_done_callback(_telling.discard)
    elif len(_gathered[FLEET_GROUP]) >= MOST_GATHERED:
        log.warning("live.dropped", call_event=event)
        return
    _gather(_gathered, tenant_id, event, call)


async def send_now(tenant_id: uuid.UUID, event: str, call: dict[str, Any]) -> None:
    """Do the same at once and wait for it, for a short time; a failure is logged."""
    news: dict[str, list[dict[str, Any]]] = {}
    _gather(news, tenant_id, event, call)
    await _send(news)


def _gather(news: dict[str, list[dict[str, Any]]], tenant_id: uuid.UUID, event: str, call: dict[str, Any]) -> None:
    document = {"event": event, "tenant_id": str(tenant_id), "call": call}
    for group in (group_of(tenant_id), FLEET_GROUP):
        news.setdefault(group, []).append(document)


async def flush() -> None:
    """Tell at once what has been gathered: the process stops."""
    news = dict(_gathered)
    _gathered.clear()
    await _send(news)


async def _tell_gathered() -> None:
    try:
        await asyncio.sleep(GATHERED_SECONDS)
    except asyncio.CancelledError:
        _gathered.clear()
        raise
    await flush()


async def _send(news: dict[str, list[dict[str, Any]]]) -> None:
    await asyncio.gather(*(_send_to(group, documents) for group, documents in news.items()))


async def _send_to(group: str, documents: list[dict[str, Any]]) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            await get_channel_layer().group_send(group, {"type": "calls.changed", "documents": documents})
    except Exception as problem:  # whatever the layer raises, a call does not care
        log.warning("live.failed", problem=repr(problem))
