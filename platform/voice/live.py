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
MOST_WAITING = 1000

log = structlog.get_logger(__name__)
_sending: set[asyncio.Task[None]] = set()


def group_of(tenant_id: uuid.UUID | str) -> str:
    return f"calls.{tenant_id}"


def announce(tenant_id: uuid.UUID, event: str, call: dict[str, Any]) -> None:
    """Tell open pages that a call was `opened`, had a `turn`, or `ended`. Returns at once.

    `call` is a JSON object with the call's id and what changed.
    """
    if len(_sending) >= MOST_WAITING:
        log.warning("live.dropped", call_event=event)
        return
    task = asyncio.create_task(send_now(tenant_id, event, call), name="announce")
    _sending.add(task)
    task.add_done_callback(_sending.discard)


async def send_now(tenant_id: uuid.UUID, event: str, call: dict[str, Any]) -> None:
    """Do the same and wait for it, for a short time; a failure is logged."""
    layer = get_channel_layer()
    document = {"event": event, "tenant_id": str(tenant_id), "call": call}
    try:
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            for group in (group_of(tenant_id), FLEET_GROUP):
                await layer.group_send(group, {"type": "call.changed", "document": document})
    except Exception as problem:  # whatever the layer raises, a call does not care
        log.warning("live.failed", problem=repr(problem))
