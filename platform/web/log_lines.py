"""Lines of a log as people read them: what they wrote as JSON is taken apart, all else stands as it is."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import Any

TIMES = ("at", "timestamp", "time", "asctime")
LEVELS = ("level", "levelname")
EVENTS = ("event", "message", "msg")
LONG = ("exception", "exc_info", "traceback", "stack")
"""Values of several lines, which are shown below their own."""


@dataclasses.dataclass(frozen=True)
class LogLine:
    """One line. Of one that was no JSON object only `event` is known."""

    event: str
    at: str = ""
    """Its time of day, with milliseconds."""
    level: str = ""
    rest: tuple[tuple[str, str], ...] = ()
    long: str = ""

    @property
    def is_bad(self) -> bool:
        return self.level in ("error", "critical", "fatal")


def read_log_lines(text: str) -> list[LogLine]:
    return [_read(line) for line in text.splitlines() if line.strip()]


def _read(line: str) -> LogLine:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return LogLine(line)
    if not isinstance(document, dict):
        return LogLine(line)
    at, level, event = (_take(document, names) for names in (TIMES, LEVELS, EVENTS))
    long = _take(document, LONG)
    if not event and not at:
        return LogLine(line)
    rest = tuple((name, _said(value)) for name, value in document.items() if value not in (None, ""))
    return LogLine(event, _time_of_day(at), level.lower(), rest, long)


def _take(document: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((_said(document.pop(name)) for name in names if document.get(name) not in (None, "")), "")


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _time_of_day(at: str) -> str:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return at
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
