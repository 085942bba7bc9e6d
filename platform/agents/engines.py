"""The engines that an agent can talk with, and the kind of worker that each runs on.

No database here: the gateway uses it.
"""

from __future__ import annotations

OPENAI_REALTIME = "openai_realtime"

NAMES = {"cascade": "Cascade", "moshi": "Moshi", OPENAI_REALTIME: "OpenAI Realtime"}
"""In the order in which they are offered."""

OPENAI_REALTIME_VOICES = ("marin", "cedar", "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse")
OPENAI_REALTIME_MODELS = ("gpt-realtime-2.1", "gpt-realtime-2.1-mini")

_WORKERS = {OPENAI_REALTIME: "cascade"}


def worker_of(engine: str) -> str:
    """Return the kind of worker that an engine runs on."""
    return _WORKERS.get(engine, engine)
