"""The supervisor's log: one line an event, JSON in production. Without Django, as all of the supervisor."""

from __future__ import annotations

import datetime
import json
import logging


class JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


def start_logging(*, log_format: str, level: str) -> None:
    handler = logging.StreamHandler()
    lines = logging.Formatter("%(asctime)s [%(levelname)s] %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(JSONLines() if log_format == "json" else lines)
    logging.basicConfig(handlers=[handler], level=level.upper())
