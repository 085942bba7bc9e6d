"""An agent's tools as a model is told of them, and their runs as it asks for them."""

from __future__ import annotations

import json
from typing import Any

from gpu_workers.cascade.brain.tool_client import ToolClient, ToolReply
from gpu_workers.protocol import Start

MAX_ROUNDS = 4
"""How often a model may call tools in one turn; after that it must speak."""
END_CALL = "end_call"

_END_CALL = {
    "name": END_CALL,
    "description": "Hang up, after goodbyes were said.",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
}


class ModelTools:
    def __init__(self, start: Start, client: ToolClient) -> None:
        self._client = client
        own = [tool for tool in start.agent.get("tools", []) if isinstance(tool, dict)]
        self.declared: list[dict[str, Any]] = [*own, _END_CALL]
        """Name, description and parameters of each; the last one hangs up, and is not to be run."""

    async def run(self, name: str, arguments: str, turn: int) -> ToolReply:
        """Run a tool with what a model wrote as its arguments. What cannot be run is refused in words."""
        read = read_arguments(arguments)
        if name not in {tool["name"] for tool in self.declared}:
            return ToolReply(False, {}, 0.0, code="unknown_tool", sentence=f"There is no tool {name!r}.")
        if read is None:
            return ToolReply(False, {}, 0.0, code="bad_arguments", sentence="The arguments are not a JSON object.")
        return await self._client.call(name, read, turn)


def read_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments a model wrote, or None where they are no JSON object."""
    try:
        arguments = json.loads(text or "{}")
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def answer_for_model(outcome: ToolReply) -> str:
    """Return what a model is told of a run, as JSON."""
    return json.dumps(outcome.result if outcome.ok else {**outcome.result, "error": outcome.sentence or outcome.code})
