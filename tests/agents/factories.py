"""Functions that build agents and calendars in the entered tenant, and template files outside of it."""

from __future__ import annotations

import copy
import datetime
import uuid
from pathlib import Path
from typing import Any

import yaml

from agents.catalog import templates_by_slug
from agents.models import Agent, OpeningHours, Service
from agents.tools import ToolContext
from agents.versions import create_agent_from_template
from tenants.models import User
from tenants.ownership import entered_tenant_id

MONDAY = datetime.datetime(2026, 3, 2, 9, 0, tzinfo=datetime.UTC)
"""What the clock shows in these tests, unless they say otherwise."""

CONFIG: dict[str, Any] = {
    "name": "Front desk",
    "engine": "cascade",
    "voice": "heart",
    "prompt": "Be brief.",
    "greeting": "Hello, this is {business}.",
    "facts": [{"question": "When are you open?", "answer": "Always."}],
    "intents": [
        {
            "name": "book",
            "examples": ["I'd like to book"],
            "questions": [
                {"name": "service", "type": "choice", "choices": ["haircut"], "ask": "Which service?"},
                {"name": "starts_at", "type": "datetime", "ask": "When?"},
                {"name": "name", "type": "name", "ask": "Who?"},
                {"name": "phone", "type": "phone", "ask": "Which number?"},
            ],
            "confirm": "A {service} on {starts_at} for {name}?",
            "tool": "book_appointment",
            "arguments": {
                "service": "{service}",
                "starts_at": "{starts_at}",
                "name": "{name}",
                "phone": "{phone}",
            },
            "done": "Booked for {starts_at}.",
            "failed": "{error}",
        }
    ],
    "tools": ["book_appointment"],
    "hand_off": "Somebody will call you back.",
    "goodbye": "Goodbye.",
}
TEMPLATE: dict[str, Any] = {
    "slug": "desk",
    "vertical": "salon",
    "summary": "Books.",
    **CONFIG,
    "services": [{"name": "haircut", "duration_minutes": 45}],
    "opening_hours": {"monday": ["09:00-17:00"]},
    "scenarios": [{"name": "books", "turns": [{"caller": "Hello"}]}],
}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with the value at a path like `intents.0.name`; the value `...` takes the key away."""
    copied = copy.deepcopy(document)
    place: Any = copied
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copied


def write_template(folder: Path, document: dict[str, Any] | str | bytes, *, vertical: str = "salon") -> Path:
    """Write a template file; text and bytes go in as they are."""
    path = folder / vertical / "desk.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(document, dict):
        document = yaml.safe_dump(document)
    path.write_bytes(document.encode() if isinstance(document, str) else document)
    return path


def create_agent(*, actor: User | None = None, template: str = "salon-front-desk", **fields: Any) -> Agent:
    return create_agent_from_template(template=templates_by_slug()[template], actor=actor, **fields)


def create_service(*, name: str = "haircut", duration_minutes: int = 45, **fields: Any) -> Service:
    return Service.objects.create(name=name, duration_minutes=duration_minutes, **fields)


def open_on(*weekdays: int, opens: str = "09:00", closes: str = "17:00") -> None:
    """Open on these weekdays, 0 for Monday."""
    for weekday in weekdays:
        OpeningHours.objects.create(
            weekday=weekday, opens_at=datetime.time.fromisoformat(opens), closes_at=datetime.time.fromisoformat(closes)
        )


def make_context(agent: Agent, *, now: datetime.datetime = MONDAY, **fields: Any) -> ToolContext:
    return ToolContext(
        tenant_id=entered_tenant_id(), agent=agent, call_id=uuid.uuid4(), turn_index=1, now=now, **fields
    )
