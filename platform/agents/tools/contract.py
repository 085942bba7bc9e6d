"""What a tool is given and what it returns."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any

from agents.models import Agent


@dataclasses.dataclass(frozen=True, slots=True)
class ToolContext:
    """In which call a tool runs; the call's tenant is entered."""

    tenant_id: uuid.UUID
    agent: Agent
    call_id: uuid.UUID | None
    turn_index: int
    now: datetime.datetime
    caller_number: str | None = None
    puts_through: bool = False
    """Whether the caller's line can be put through to a person when the agent hangs up."""


@dataclasses.dataclass(frozen=True, slots=True)
class ToolResult:
    """`error_sentence` may be said to the caller; `error_slot` names the question to ask again."""

    ok: bool
    result: dict[str, Any] | None = None
    error_code: str | None = None
    error_sentence: str | None = None
    error_slot: str | None = None


class ToolRefused(Exception):
    """A tool cannot do what was asked. Becomes a ToolResult."""

    def __init__(
        self, code: str, sentence: str, *, slot: str | None = None, result: dict[str, Any] | None = None
    ) -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.slot, self.result = code, sentence, slot, result
