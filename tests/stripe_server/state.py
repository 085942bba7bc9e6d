"""What the stand-in keeps: objects by kind, its clock, and the events that say what changed."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from typing import Any

import stripe

from tests.stripe_server.annotations import blank


class Fault(Exception):
    """An answer that is an error, of the form of Stripe's."""

    def __init__(self, status: int, kind: str, message: str, *, code: str | None = None, param: str = "") -> None:
        super().__init__(message)
        self.status = status
        details = {"type": kind, "message": message, "code": code, "param": param or None}
        self.document = {"error": {name: value for name, value in details.items() if value is not None}}


def missing(kind: str, object_id: str) -> Fault:
    return Fault(404, "invalid_request_error", f"No such {kind}: '{object_id}'", code="resource_missing", param="id")


def wrong(message: str, param: str = "", code: str | None = None) -> Fault:
    return Fault(400, "invalid_request_error", message, code=code, param=param)


@dataclasses.dataclass
class Usage:
    """A meter event as it counts: of which customer, when, how much."""

    customer: str
    event_name: str
    at: int
    value: int


@dataclasses.dataclass
class State:
    """`objects`: kind (as in an object's `object`) to id to object. `usage_from`: item id to since when it counts."""

    url: str = ""
    offset: float = 0.0
    objects: dict[str, dict[str, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    usage: list[Usage] = dataclasses.field(default_factory=list)
    meter_identifiers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    usage_from: dict[str, int] = dataclasses.field(default_factory=dict)
    pending: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """Lines that wait for a subscription's next invoice."""
    answers: dict[str, tuple[str, int, str]] = dataclasses.field(default_factory=dict)
    """Idempotency key to (what was asked, status, body)."""
    to_deliver: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    _numbers: Any = dataclasses.field(default_factory=lambda: itertools.count(1))

    @property
    def now(self) -> int:
        return int(time.time() + self.offset)

    def fresh_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):014d}"

    def keep(self, made: dict[str, Any]) -> dict[str, Any]:
        self.objects.setdefault(made["object"], {})[made["id"]] = made
        return made

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return list(self.objects.get(kind, {}).values())

    def get(self, kind: str, object_id: str) -> dict[str, Any]:
        """Return an object, as it is kept.

        Raises:
            Fault: there is none.
        """
        found = self.objects.get(kind, {}).get(object_id)
        if found is None:
            raise missing(kind, object_id)
        return found

    def emit(self, kind: str, about: dict[str, Any], before: dict[str, Any] | None = None) -> None:
        """Keep an event with the object as it is at this moment, and let it be delivered."""
        changed = {name: value for name, value in (before or {}).items() if about.get(name) != value}
        event = blank(
            stripe.Event,
            id=self.fresh_id("evt"),
            object="event",
            api_version=stripe.api_version,
            created=self.now,
            type=kind,
            pending_webhooks=1,
            data={"object": copy.deepcopy(about), "previous_attributes": changed or None},
        )
        self.to_deliver.append(self.keep(event))
