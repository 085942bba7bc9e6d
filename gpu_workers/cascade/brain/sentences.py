"""Sentences and tool arguments of a configuration, with the values of a conversation in their `{slots}`."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from gpu_workers.cascade.brain.slots import say_value, tool_value

_SLOT = re.compile(r"\{(\w+)\}")
_SLOT_WITH_ARTICLE = re.compile(r"(?:\b(a) )?\{(\w+)\}")


def fill_sentence(sentence: str, values: Mapping[str, Any], now: datetime.datetime) -> str:
    """Return a sentence with its slots as they are said; a slot without a value is left out.

    `a {service}` reads `an exam`, and `highlights`.
    """

    def said(match: re.Match[str]) -> str:
        article, name = match[1], match[2]
        value = say_value(values[name], now, name=name) if name in values else ""
        if article is None or value.endswith("s"):
            return value
        return f"an {value}" if value[:1].lower() in "aeio" and value else f"{article} {value}"

    filled = _SLOT_WITH_ARTICLE.sub(said, sentence)
    return re.sub(r" +", " ", re.sub(r"\bon (today|tomorrow)\b", r"\1", filled)).strip()


def fill_arguments(intent: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for an intent's tool. Without a mapping these are the answers to its questions."""
    mapping = intent.get("arguments")
    if not mapping:
        own = [question["name"] for question in intent.get("questions", [])]
        return {name: tool_value(values[name]) for name in own if name in values}
    arguments: dict[str, Any] = {}
    for name, template in mapping.items():
        if not isinstance(template, str):
            arguments[name] = template
        elif not (slot := _SLOT.fullmatch(template)):
            arguments[name] = _SLOT.sub(lambda match: _written(values.get(match[1], "")), template)
        elif (value := values.get(slot[1])) is not None:
            arguments[name] = tool_value(value)
    return arguments


def slot_of_argument(intent: Mapping[str, Any], argument: str) -> str:
    """Return the question that a tool's argument is taken from."""
    slot = _SLOT.fullmatch(str((intent.get("arguments") or {}).get(argument, "")))
    return slot[1] if slot else argument


def _written(value: Any) -> str:
    """Return a value as people write it: a text that a tool passes on is read, not heard."""
    value = tool_value(value)
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"
