"""Structured logs: one JSON object a line on stderr, with the call it belongs to."""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import os
import sys

call_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("call_id", default=None)
"""The call that the running task serves."""


class JsonFormatter(logging.Formatter):
    def __init__(self, **fixed: str) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fixed,
            **getattr(record, "fields", {}),
        }
        if (call := call_id.get()) is not None:
            line["call_id"] = call
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def start_logging(**fixed: str) -> None:
    """Log to stderr (from `LOG_LEVEL` on), with these fields in every line. Replaces what an earlier call set up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(**fixed))
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO").upper(), handlers=[handler], force=True)
