"""The public demo: whom a visitor may call without signing in, how often, and how many at a time."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from agents.catalog import VERTICALS, templates_by_slug
from agents.models import Agent
from tenants.lookups import house_tenant_id
from tenants.scope import enter_tenant
from voice.models import Call, Ticket
from voice.tickets import call_address, issue_ticket

MAX_SECONDS = 60
HOUR_SECONDS = 3600
# A ticket becomes a call within moments of being issued; one that is older than this was given up.
TICKET_GRACE_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class DemoAgent:
    """An agent as the home page shows it. `suggestions` are things to say to it."""

    slug: str
    name: str
    vertical: str
    summary: str
    suggestions: list[str]


class DemoRefused(Exception):
    """A visitor may not call now. The sentence may be shown; `status` is the HTTP status that says the same."""

    def __init__(self, sentence: str, *, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def demo_agents() -> list[DemoAgent]:
    """Return the published agents of the operator's own tenant; none where there is no such tenant yet."""
    house = house_tenant_id()
    if house is None:
        return []
    templates = templates_by_slug()
    with enter_tenant(house):
        found = [
            DemoAgent(
                slug=agent.slug,
                name=agent.name,
                vertical=VERTICALS.get(agent.vertical, agent.vertical),
                summary=template.summary if (template := templates.get(agent.template_slug)) else "",
                suggestions=_suggestions(agent.live_version.config),
            )
            for agent in Agent.objects.callable().select_related("live_version")
        ]
    labels = list(VERTICALS.values())
    return sorted(found, key=lambda each: labels.index(each.vertical) if each.vertical in labels else len(labels))


def issue_visitor_ticket(*, slug: str, visitor_address: str, origin: str) -> str:
    """Return the address at which a visitor may call a demo agent, once, for a minute.

    Args:
        visitor_address: the visitor's network address, of which only a hash is kept for an hour.
        origin: the page that asks.

    Raises:
        DemoRefused: unknown agent, all lines busy, or too many calls from this address.
    """
    house = house_tenant_id()
    if house is None:
        raise DemoRefused("There is no demo on this installation yet.", status=503)
    with enter_tenant(house):
        agent = Agent.objects.callable().filter(slug=slug).first()
        if agent is None:
            raise DemoRefused("This agent is not part of the demo. Please reload the page.", status=404)
        if _busy_lines() >= settings.DEMO_LINES:
            raise DemoRefused("All demo lines are busy at the moment. Please try again in a minute.", status=503)
        _count_call_from(visitor_address)
        secret = issue_ticket(agent, origin=origin, max_seconds=MAX_SECONDS, visitor=True)
    return call_address(settings.GATEWAY_URL, secret)


def _suggestions(config: dict[str, Any]) -> list[str]:
    intents = [intent["examples"][0] for intent in config.get("intents", []) if intent.get("examples")]
    questions = [fact["question"] for fact in config.get("facts", [])]
    return [*intents[:3], *questions[:2]]


def _busy_lines() -> int:
    since = timezone.now() - timedelta(seconds=TICKET_GRACE_SECONDS)
    about_to_call = Ticket.objects.filter(channel=Call.Channel.DEMO, used_at=None, created_at__gte=since).count()
    return Call.objects.live().filter(channel=Call.Channel.DEMO).count() + about_to_call


def _count_call_from(visitor_address: str) -> None:
    digest = hashlib.sha256(f"{settings.SECRET_KEY}{visitor_address}".encode()).hexdigest()[:32]
    key = f"demo-calls:{digest}"
    cache.add(key, 0, HOUR_SECONDS)
    try:
        count = cache.incr(key)
    except ValueError:
        # It expired between the two.
        cache.set(key, 1, HOUR_SECONDS)
        count = 1
    if count > settings.DEMO_CALLS_PER_HOUR:
        raise DemoRefused(
            f"That was call number {settings.DEMO_CALLS_PER_HOUR} from here within an hour. Please try again later, "
            "or start a trial.",
            status=429,
        )
