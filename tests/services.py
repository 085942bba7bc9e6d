"""A real PostgreSQL and a real Valkey for the whole test run, started before Django reads its settings."""

from __future__ import annotations

import atexit
import base64
import os
import shutil
import tempfile
from pathlib import Path

_superuser_url = ""


def superuser_url() -> str:
    """Return the address of the server's bootstrap user, which only tests of the database itself may use."""
    return _superuser_url


def start() -> None:
    """Start the services, in a folder that goes when the run ends, and point the settings at them."""
    global _superuser_url
    from config import embedded

    folder = Path(tempfile.mkdtemp(prefix="warmline-tests-"))
    folder.chmod(0o755)  # the database server runs as a user of its own
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    postgres = embedded.start_postgres(folder / "postgres", durable=False)
    atexit.register(postgres.stop)
    _superuser_url = postgres.superuser_url
    valkey = embedded.start_valkey(folder / "valkey")
    atexit.register(valkey.stop)
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
