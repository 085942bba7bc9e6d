"""A real PostgreSQL and a real Valkey for the whole test run, started before Django reads its settings."""

from __future__ import annotations

import atexit
import base64
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_folder = Path()
_servers: dict[str, Any] = {}


def superuser_url() -> str:
    """Return the address of the server's bootstrap user, which only tests of the database itself may use."""
    return str(_servers["postgres"].superuser_url)


def start() -> None:
    """Start the services, in a folder that goes when the run ends, and point the settings at them."""
    global _folder

    folder = Path(tempfile.mkdtemp(prefix="warmline-tests-"))
    folder.chmod(0o755)  # the database server runs as a user of its own
    _folder = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    postgres, valkey = _start_postgres(), _start_valkey()
    os.environ.update(
        {
            "DATABASE_URL": postgres.app_url,
            "DATABASE_OWNER_URL": postgres.owner_url,
            "DATABASE_OPERATOR_URL": postgres.operator_url,
            "REDIS_URL": valkey.url,
            "WARMLINE_ENVIRONMENT": "development",
            "WARMLINE_SECRET_KEY": "a-secret-of-the-tests-" + "x" * 40,
            "WARMLINE_CONTENT_KEY": base64.b64encode(b"k" * 32).decode(),
            "WARMLINE_STATE_DIR": os.environ.get("WARMLINE_TEST_STATE_DIR", str(folder / "state")),
            # The prepared speech models are the machine's, not the run's: making them takes half a minute.
            "WARMLINE_MODELS_DIR": os.environ.get(
                "WARMLINE_MODELS_DIR", str(Path(__file__).resolve().parent.parent / ".warmline" / "models")
            ),
            "LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
    )
    # WhiteNoise warns of a missing folder; in development the files come from the finders.
    Path(os.environ["WARMLINE_STATE_DIR"], "static").mkdir(parents=True, exist_ok=True)
    for name in ("LLM_BASE_URL", "LLM_API_KEY", "LLM_MODEL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        os.environ.pop(name, None)


def restart_postgres() -> None:
    """Have the database go away and come back at the same port. Its clients are sent away."""
    server = _servers["postgres"]
    server.stop()
    _start_postgres(port=server.port)


def restart_valkey() -> None:
    """Do the same with Valkey, which forgets everything."""
    address = urlsplit(_servers["valkey"].url)
    _servers["valkey"].stop()
    _start_valkey(port=address.port, password=unquote(address.password or ""))


def _start_postgres(**options: Any) -> Any:
    from config import embedded

    server = _servers["postgres"] = embedded.start_postgres(_folder / "postgres", durable=False, **options)
    atexit.register(server.stop)
    return server


def _start_valkey(**options: Any) -> Any:
    from config import embedded

    server = _servers["valkey"] = embedded.start_valkey(_folder / "valkey", **options)
    atexit.register(server.stop)
    return server
