"""Structured logs: JSON in production, readable lines elsewhere; tenant and call ids come from the context."""

from __future__ import annotations

import logging.config
from typing import Any

import structlog

SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
]
JSON_PROCESSORS: list[Any] = [
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(default=str),
]
CONSOLE_PROCESSORS: list[Any] = [
    structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
    # Plain tracebacks: richer ones would print local variables, and with them what was said.
    structlog.dev.ConsoleRenderer(
        colors=False, pad_event_to=0, pad_level=False, exception_formatter=structlog.dev.plain_traceback
    ),
]
# Each says at INFO that it runs, or that a task that runs every few seconds has run.
CHATTY = ("uvicorn", "uvicorn.access", "uvicorn.error", "celery", "kombu", "httpx", "psycopg.pool", "opentelemetry")


def configure(settings: dict[str, Any]) -> None:
    """Set up logging in this process; Django calls it with the setting LOGGING."""
    logging.config.dictConfig(settings)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED_PROCESSORS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logging_settings(log_format: str, *, level: str) -> dict[str, Any]:
    """Return the dictConfig of the standard library's logging, which structlog's loggers go through too."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *(JSON_PROCESSORS if log_format == "json" else CONSOLE_PROCESSORS),
                ],
                "foreign_pre_chain": SHARED_PROCESSORS,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "loggers": {
            # Handlers of their own would print each line twice.
            **{name: {"level": _at_least_warning(level), "handlers": [], "propagate": True} for name in CHATTY},
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
        },
        "root": {"handlers": ["stderr"], "level": level},
    }


def _at_least_warning(level: str) -> str:
    return level if level in ("ERROR", "CRITICAL", "DEBUG") else "WARNING"
