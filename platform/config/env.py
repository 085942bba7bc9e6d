"""Typed readers of environment variables that fail loudly. A secret may also come from a file: NAME_FILE.

Every name that is read is kept in `READ`, so that a test can hold `.env.example` against it.

`manage.py demo` leaves the addresses of what it runs in its state folder, so that commands beside it need no variables.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TypeVar, overload
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent.parent
STATE_DIR = Path(os.environ.get("WARMLINE_STATE_DIR") or ROOT / ".warmline").resolve()
RUNNING_FILE = "running.json"
"""In the state folder while a demo runs: its environment, for commands beside it."""

LOCK_FILE = "lock"
"""In the state folder, held by the demo that runs on it."""

ADOPTED: set[str] = set()
"""Names whose values came from a running demo."""

READ: set[str] = set()
T = TypeVar("T")


def adopt_running_demo() -> None:
    """Take over the environment of a demo that runs on the state folder; whoever names a database is left alone."""
    if "DATABASE_URL" in os.environ or "DATABASE_URL_FILE" in os.environ:
        return
    try:
        running = json.loads((STATE_DIR / RUNNING_FILE).read_text())
    except (OSError, ValueError):
        return
    if not _is_locked(STATE_DIR / LOCK_FILE):
        # It was killed: nothing answers there any more.
        return
    for name, value in running.items():
        if name not in os.environ:
            os.environ[name] = value
            ADOPTED.add(name)


def forget_running_demo() -> None:
    """Give back what was taken over: another demo is not to run on the first one's servers."""
    for name in ADOPTED:
        os.environ.pop(name, None)
    ADOPTED.clear()


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return path.exists()
    return False


class ConfigurationError(Exception):
    """An environment variable is missing or not of its form. The sentence names it and says what would do."""


@overload
def text(name: str, default: str) -> str: ...
@overload
def text(name: str, default: None = None) -> str | None: ...
def text(name: str, default: str | None = None) -> str | None:
    """Return the variable, or the default where it is unset or empty."""
    READ.add(name)
    return os.environ.get(name) or default


def secret(name: str, default: str | None = None) -> str | None:
    """Return the variable, or the content of the file that NAME_FILE names."""
    READ.add(name)
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as problem:
            raise ConfigurationError(f"{name}_FILE: {path} cannot be read: {problem.strerror}.") from problem
    return os.environ.get(name) or default


def boolean(name: str, *, default: bool) -> bool:
    value = text(name, "true" if default else "false").lower()
    if value in ("true", "1", "yes", "on"):
        return True
    if value in ("false", "0", "no", "off"):
        return False
    raise ConfigurationError(f"{name} must be true or false, not {value!r}.")


def integer(name: str, default: int) -> int:
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ConfigurationError(f"{name} must be a whole number, not {value!r}.") from None


def decimal(name: str, default: float) -> float:
    value = text(name, str(default))
    try:
        return float(value)
    except ValueError:
        raise ConfigurationError(f"{name} must be a number, not {value!r}.") from None


def document(name: str) -> dict[str, object]:
    """Return the JSON object that the variable, or the file that NAME_FILE names, holds; an empty one without it."""
    value = secret(name)
    if not value:
        return {}
    try:
        read = json.loads(value)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ConfigurationError(f"{name} must be a JSON object.")
    return read


def words(name: str, default: str = "") -> list[str]:
    """Return the comma-separated parts of the variable."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def one_of(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def database(name: str, url: str) -> dict[str, object]:
    """Return Django's settings of the database at a `postgresql://` address.

    Raises:
        ConfigurationError: the address is not PostgreSQL's or names no database.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise ConfigurationError(f"{name} is not an address: {problem}.") from None
    if parts.scheme not in ("postgresql", "postgres") or len(parts.path) < 2:
        raise ConfigurationError(f"{name} must be like postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
    options = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(options.pop("host", parts.hostname or "")),
        "PORT": str(port or ""),
        "OPTIONS": options,
    }
