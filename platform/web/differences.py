"""Differences between two configurations of an agent, line by line, to be read by people."""

from __future__ import annotations

import dataclasses
import difflib
import json
from typing import Any

from agents.versions import differences

HEADINGS = {
    "facts": "What it knows",
    "intents": "What callers want",
    "hand_off": "When it cannot help",
    "llm": "Language model",
}
"""What the editor calls these parts."""


@dataclasses.dataclass(frozen=True)
class ReadableDifference:
    """What changed in one place. `lines`: (`same`, `old` or `new`, text)."""

    where: str
    lines: list[tuple[str, str]]


def readable_differences(before: dict[str, Any], after: dict[str, Any]) -> list[ReadableDifference]:
    """Return what changed from one configuration to another, in the order of the newer one."""
    return [
        ReadableDifference(_where(each.path), _lines(_text(each.before), _text(each.after)))
        for each in differences(before, after)
    ]


def _where(path: str) -> str:
    first, *others = path.split(".")
    return " › ".join(
        [HEADINGS.get(first) or first.replace("_", " ").capitalize(), *(_spaced(part) for part in others)]
    )


def _spaced(part: str) -> str:
    return part.replace("_", " ")


def _text(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines() or [""]
    if isinstance(value, dict):  # a line for each of what it holds, but for what it is called
        held = {
            key: each for key, each in value.items() if key not in ("name", "question") and each not in ("", [], {})
        }
        return [f"{_spaced(key)}: {_spelled(each)}" for key, each in held.items()] or [""]
    if isinstance(value, list):
        return [each if isinstance(each, str) else _spelled(each) for each in value]
    return [_spelled(value)]


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{_spaced(key)}: {_spelled(each)}" for key, each in value.items() if each not in ("", [], {}))
    if isinstance(value, list):
        return ", ".join(_spelled(each) for each in value)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _lines(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    kinds = {"  ": "same", "- ": "old", "+ ": "new"}
    compared = difflib.ndiff(old, new)
    return [(kinds[line[:2]], line[2:]) for line in compared if line[:2] in kinds]
