"""Where the language model is, from the worker's environment."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_TIMEOUT_SECONDS = 2.5


class BadSetting(ValueError):
    """A variable is not of its form, or names a file that cannot be read. The sentence names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSettings:
    """An endpoint that speaks OpenAI's chat completions. `timeout_seconds`: until its first words or tool call."""

    base_url: str
    model: str
    api_key: str = dataclasses.field(default="", repr=False)
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Sent with each request: of a worker of another pool, its session token."""

    @classmethod
    def from_environment(cls) -> ModelSettings | None:
        """Read LLM_BASE_URL, LLM_MODEL, LLM_API_KEY (or its file) and LLM_TIMEOUT_SECONDS; None without a model.

        Raises:
            BadSetting: a variable is not of its form, or the key's file cannot be read.
        """
        if not (base_url := os.environ.get("LLM_BASE_URL")):
            return None
        if not base_url.startswith(("http://", "https://")):
            raise BadSetting(f"LLM_BASE_URL must begin with http:// or https://, not {base_url!r}.")
        return cls(
            base_url=base_url,
            model=os.environ.get("LLM_MODEL") or "default",
            api_key=_read_key(),
            timeout_seconds=_read_timeout(),
        )


def _read_key() -> str:
    """Return the key. A file goes before the variable, as the platform's own secrets are read."""
    if path := os.environ.get("LLM_API_KEY_FILE"):
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "it is no text"
            raise BadSetting(f"LLM_API_KEY_FILE: {path} cannot be read: {reason}.") from problem
    return os.environ.get("LLM_API_KEY") or ""


def _read_timeout() -> float:
    value = os.environ.get("LLM_TIMEOUT_SECONDS") or str(DEFAULT_TIMEOUT_SECONDS)
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadSetting(f"LLM_TIMEOUT_SECONDS must be a number of seconds above zero, not {value!r}.")
    return seconds
