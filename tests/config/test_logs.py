"""One line an event, with the ids of the tenant and the call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = """
import logging
import structlog
from config import logs

logs.configure(logs.logging_settings(FORMAT, level="INFO"))
with structlog.contextvars.bound_contextvars(tenant_id="t-1", call_id="c-1"):
    structlog.get_logger("voice").info("call.opened", agent="demo")
    logging.getLogger("provisioning").warning("plain %s", "words")
logging.getLogger("celery.app.trace").info("a task has run")
logging.getLogger("uvicorn.access").info("GET /call/ticket")
secret = "what was said"
try:
    raise ValueError("no")
except ValueError:
    structlog.get_logger("voice").exception("call.failed")
"""


@pytest.fixture
def logged(request: pytest.FixtureRequest) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", CODE.replace("FORMAT", repr(request.param))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )
    assert run.stdout == "", "standard output is for what commands print"
    return run.stderr.splitlines()


@pytest.mark.parametrize("logged", ["json"], indirect=True)
def test_in_production_each_line_is_an_object_with_the_ids(logged: list[str]) -> None:
    opened, plain, failed = (json.loads(line) for line in logged)
    assert (
        opened.items()
        >= {
            "event": "call.opened",
            "agent": "demo",
            "level": "info",
            "logger": "voice",
            "tenant_id": "t-1",
            "call_id": "c-1",
        }.items()
    )
    assert plain.items() >= {"event": "plain words", "level": "warning", "call_id": "c-1"}.items()
    assert "ValueError: no" in failed["exception"]
    assert "what was said" not in failed["exception"]


@pytest.mark.parametrize("logged", ["console"], indirect=True)
def test_elsewhere_each_line_is_for_people(logged: list[str]) -> None:
    assert "[info] call.opened [voice]" in logged[0]
    assert "call_id=c-1" in logged[0]
    assert "plain words" in logged[1]
    assert logged[-1] == "ValueError: no"
    assert "has run" not in "".join(logged)
    assert "/call/ticket" not in "".join(logged)
