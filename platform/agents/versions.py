"""An agent's life: made from a template, edited as a draft, published, compared, rolled back."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from django.utils import timezone
from django.utils.text import slugify

from agents.catalog import AgentTemplate, problems_of, read_stretch
from agents.models import Agent, AgentVersion, OpeningHours, Service
from agents.models.scheduling import WEEKDAYS
from billing.entitlements import entitlements_of
from tenants import audit
from tenants.models import Tenant, User
from tenants.ownership import entered_tenant_id
from tenants.scope import atomic

NAME_LENGTH = 80
"""As the model has it: what is longer is refused in a sentence."""
RESERVED_SLUG = "new"
"""What a page for making agents is called."""
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?", re.IGNORECASE)


class NotPossible(ValueError):
    """A journey is refused. The sentence may be shown to who asked for it."""


class InvalidConfig(NotPossible):
    """A configuration cannot be published. `problems`: (path, sentence) of each thing to mend."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        where, sentence = problems[0]
        super().__init__(f"{where}: {sentence}" if where else sentence)
        self.problems = problems


@dataclasses.dataclass(frozen=True)
class Difference:
    """One changed value; `before` or `after` is None where it was added or removed."""

    path: str
    before: Any
    after: Any


def create_agent_from_template(*, template: AgentTemplate, actor: User | None, name: str = "", slug: str = "") -> Agent:
    """Make an agent whose draft is the template's configuration; the calendar gets the hours and services it lacks.

    Raises:
        NotPossible: the plan's number of agents is reached, another agent has the slug, or the name is too long.
    """
    with atomic():
        # One at a time in a tenant: two that count together would both find room for one more.
        Tenant.objects.select_for_update(no_key=True).get(pk=entered_tenant_id())
        limit = entitlements_of().agents
        if Agent.objects.current().count() >= limit:
            raise NotPossible(f"The plan allows {limit} agents: archive one, or choose a larger plan.")
        name = name.strip() or template.name
        if len(name) > NAME_LENGTH:
            raise NotPossible(f"The name must be at most {NAME_LENGTH} characters long.")
        if slug and (slug == RESERVED_SLUG or Agent.objects.filter(slug=slug).exists()):
            raise NotPossible(f"There is an agent {slug} already.")
        agent = Agent.objects.create(
            name=name,
            slug=slug or _free_slug(name),
            vertical=template.vertical,
            template_slug=template.slug,
            draft={**template.config, "name": name},
        )
        set_up_scheduler(template)
        audit.record(action="agent.created", target=name, actor=actor, details={"template": template.slug})
    return agent


def set_up_scheduler(template: AgentTemplate) -> None:
    """Add the template's services that are missing, and its opening hours where there are none at all."""
    known = {name.casefold() for name in Service.objects.values_list("name", flat=True)}
    for service in template.services:
        if service["name"].casefold() not in known:
            Service.objects.create(**service)
    if template.opening_hours and not OpeningHours.objects.exists():
        for weekday, name in enumerate(WEEKDAYS):
            for stretch in template.opening_hours.get(name.lower(), []):
                opens, closes = read_stretch(stretch)
                OpeningHours.objects.create(weekday=weekday, opens_at=opens, closes_at=closes)


def save_draft(*, agent: Agent, draft: dict[str, Any], actor: User | None) -> list[tuple[str, str]]:
    """Keep a draft, finished or not; return (path, sentence) of what would keep it from being published."""
    with atomic():
        agent.draft = draft
        if isinstance(name := draft.get("name"), str) and name.strip():
            agent.name = name.strip()[:NAME_LENGTH]
        agent.save(update_fields=["draft", "name"])
        audit.record(action="agent.draft_saved", target=agent.name, actor=actor)
    return problems_of(draft)


def change_access(*, agent: Agent, allowed_origins: list[str], calls_per_minute: int, actor: User | None) -> None:
    """Change who may call an agent by its public key: from which pages, and how often. It holds at once.

    Raises:
        NotPossible: an origin is not of its form.
    """
    for origin in allowed_origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise NotPossible(f"“{origin}” is not the origin of a page: write it like https://www.example.com.")
    agent.allowed_origins, agent.calls_per_minute = list(dict.fromkeys(allowed_origins)), calls_per_minute
    with atomic():
        agent.save(update_fields=["allowed_origins", "calls_per_minute"])
        audit.record(
            action="agent.access_changed",
            target=agent.name,
            actor=actor,
            details={"allowed_origins": agent.allowed_origins, "calls_per_minute": calls_per_minute},
        )


def publish(*, agent: Agent, actor: User | None, note: str = "") -> AgentVersion:
    """Make the draft an immutable version, and the one that new calls get. No worker is touched.

    Raises:
        InvalidConfig: the draft has problems.
        NotPossible: it is the same as the live version.
    """
    with atomic():
        agent = Agent.objects.select_for_update().get(pk=agent.pk)
        if problems := problems_of(agent.draft):
            raise InvalidConfig(problems)
        live = agent.live_version
        if live is not None and live.config == agent.draft:
            raise NotPossible("Nothing has changed since the live version.")
        last = AgentVersion.objects.filter(agent=agent).order_by("-number").values_list("number", flat=True).first()
        version = AgentVersion.objects.create(
            agent=agent,
            number=(last or 0) + 1,
            config=agent.draft,
            engine=agent.draft["engine"],
            note=note.strip()[:200],
            published_by=actor,
        )
        _go_live(agent, version)
        audit.record(
            action="agent.published", target=agent.name, actor=actor, details={"version": version.number, "note": note}
        )
    return version


def roll_back(*, agent: Agent, version: AgentVersion, actor: User | None) -> None:
    """Make an older version the live one again.

    No new version is made: a number keeps meaning one configuration, and calls before and after that had the same
    number can be compared. The audit trail says when each was live. The draft stays as it is.

    Raises:
        NotPossible: it is live already, or is another agent's.
        InvalidConfig: it names something that this installation has no more, such as a tool.
    """
    with atomic():
        agent = Agent.objects.select_for_update().get(pk=agent.pk)
        if version.agent_id != agent.pk:
            raise NotPossible("That version is of another agent.")
        if agent.live_version_id == version.pk:
            raise NotPossible(f"Version {version.number} is the live one already.")
        if problems := problems_of(version.config):
            raise InvalidConfig(problems)
        before = agent.live_version.number if agent.live_version else None
        _go_live(agent, version)
        audit.record(
            action="agent.rolled_back", target=agent.name, actor=actor, details={"from": before, "to": version.number}
        )


def archive(*, agent: Agent, actor: User | None) -> None:
    """Take an agent out of service; its calls and versions stay."""
    agent.archived_at = timezone.now()
    with atomic():
        agent.save(update_fields=["archived_at"])
        audit.record(action="agent.archived", target=agent.name, actor=actor)


def _go_live(agent: Agent, version: AgentVersion) -> None:
    agent.live_version = version
    agent.save(update_fields=["live_version"])


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """Return what changed between two configurations, in the order of the newer one."""
    return list(_differences("", before, after))


def _differences(path: str, before: Any, after: Any) -> list[Difference]:
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*after, *(key for key in before if key not in after)]
        return [
            each
            for key in keys
            for each in _differences(f"{path}.{key}" if path else key, before.get(key), after.get(key))
        ]
    if isinstance(before, list) and isinstance(after, list):
        old, new = _by_name(before), _by_name(after)
        if old is not None and new is not None:
            kept_old, kept_new = [name for name in old if name in new], [name for name in new if name in old]
            moved = [Difference(path, kept_old, kept_new)] if kept_old != kept_new else []
            return moved + _differences(path, old, new)
    return [Difference(path, before, after)]


def _by_name(values: list[Any]) -> dict[str, Any] | None:
    """Return a list's values by what each is called: intents by name, facts by question; None where one has no name."""
    names: list[Any] = [value.get("name") or value.get("question") for value in values if isinstance(value, dict)]
    if len(names) < len(values) or not all(isinstance(name, str) and name for name in names):
        return None
    if len(set(names)) < len(names):
        return None
    return dict(zip(names, values, strict=True))


def _free_slug(name: str) -> str:
    wanted = slugify(name)[:40].strip("-") or "agent"
    taken = {RESERVED_SLUG, *Agent.objects.filter(slug__startswith=wanted).values_list("slug", flat=True)}
    slug, number = wanted, 1
    while slug in taken:
        number += 1
        slug = f"{wanted}-{number}"
    return slug
