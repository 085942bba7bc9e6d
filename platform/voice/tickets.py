"""Tickets: leave to call an agent once, within a minute."""

from __future__ import annotations

import secrets
from urllib.parse import quote

from agents.models import Agent
from tenants.models import User, hash_secret
from voice.models import Call, Ticket


class AgentNotPublished(Exception):
    """The agent has no live version, or was archived. The sentence may be shown."""


def issue_ticket(
    agent: Agent,
    *,
    issued_by: User | None = None,
    origin: str | None = None,
    max_seconds: int | None = None,
    visitor: bool = False,
    channel: str | None = None,
) -> str:
    """Return the secret of a new ticket for an agent of the entered tenant.

    Args:
        origin: the only page (scheme, host and port) that may use it; None: any client.
        max_seconds: the call ends after so long.
        visitor: the caller has not signed in; the call is counted as a demo.

    Raises:
        AgentNotPublished
    """
    if agent.archived_at is not None or agent.live_version_id is None:
        raise AgentNotPublished(f"{agent.name} has no published version: publish one before calling it.")
    secret = secrets.token_urlsafe(24)
    Ticket.objects.create(
        agent=agent,
        token_hash=hash_secret(secret),
        channel=channel or (Call.Channel.DEMO if visitor else Call.Channel.BROWSER),
        origin=origin or "",
        max_seconds=max_seconds,
        issued_by=issued_by,
    )
    return secret


def call_address(gateway_url: str, ticket: str, *, region: str = "") -> str:
    """Return where a client with a ticket connects. `region`: near the caller, where that is known."""
    return f"{gateway_url}/call/{ticket}/api/chat" + (f"?region={quote(region)}" if region else "")
