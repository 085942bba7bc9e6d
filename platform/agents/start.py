"""What of an agent's configuration travels to a worker at the start of a call.

No database here: the gateway uses it.
"""

from __future__ import annotations

from typing import Any

from agents.tools.declarations import declaration_of

SENT = ("name", "engine", "voice", "prompt", "greeting", "facts", "intents", "hand_off", "goodbye", "llm", "realtime")

ANNOUNCEMENT = "This call is recorded."


def agent_document(config: dict[str, Any], *, business_name: str = "") -> dict[str, Any]:
    """Return `Start.agent` for a version's configuration: tools as declarations, the business's name filled in.

    Where calls are recorded, the agent says so before its greeting.
    """
    document = {key: _named(config[key], business_name) for key in SENT if key in config}
    if (recording := config.get("recording", {})).get("enabled"):
        announcement = _named(recording.get("announcement") or ANNOUNCEMENT, business_name)
        document["greeting"] = f"{announcement} {document['greeting']}"
    document["tools"] = [declaration_of(name) for name in config.get("tools", [])]
    return document


def _named(value: Any, business_name: str) -> Any:
    """Fill `{business}` in every sentence; other braces are slots, which the conversation fills."""
    if isinstance(value, str):
        return value.replace("{business}", business_name) if business_name else value
    if isinstance(value, list):
        return [_named(each, business_name) for each in value]
    if isinstance(value, dict):
        return {key: _named(each, business_name) for key, each in value.items()}
    return value
