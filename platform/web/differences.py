"""Differences between two configurations of an agent, line by line, to be read by people."""

from __future__ import annotations

import dataclasses
import difflib
import json
from typing import Any

from agents.versions import differences


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
    return " › ".join(part.replace("_", " ") for part in path.split("."))


def _text(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines() or [""]
    if isinstance(value, list):
        return [each if isinstance(each, str) else _spelled(each) for each in value]
    return [_spelled(value)]


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_spelled(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(_spelled(each) for each in value)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _lines(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    kinds = {"  ": "same", "- ": "old", "+ ": "new"}
    compared = difflib.ndiff(old, new)
    return [(kinds[line[:2]], line[2:]) for line in compared if line[:2] in kinds]
