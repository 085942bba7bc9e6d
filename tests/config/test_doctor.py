"""`manage.py doctor` names what is missing and says what to do. See also test_demo, where nothing is."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from tests.ports import free_port


def findings(**changes: Any) -> dict[str, dict[str, str]]:
    """Run the doctor beside the tests' databases alone, and return its findings by name."""
    output = io.StringIO()
    nowhere = f"127.0.0.1:{free_port()}"
    alone = {
        "GATEWAY_URL": f"ws://{nowhere}",
        "INTERNAL_URL": f"http://{nowhere}",
        "LOCAL_SUPERVISOR_URL": f"http://{nowhere}",
    }
    with override_settings(**{**alone, **changes}), pytest.raises(CommandError, match="found something wrong"):
        call_command("doctor", "--json", stdout=output)
    return {finding["name"]: finding for finding in json.loads(output.getvalue())}


def test_what_works_is_told_apart_from_what_does_not() -> None:
    found = findings()
    for name in ("settings", "database", "database operator", "database owner", "migrations", "isolation", "valkey"):
        assert found[name]["state"] == "ok", found[name]
    for name in ("tasks", "web", "gateway", "local supervisor"):
        assert found[name]["state"] == "wrong"
        assert found[name]["advice"]
    assert found["worker"]["state"] == "skipped"


def test_each_finding_is_one_line_for_people() -> None:
    output = io.StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", stdout=output, no_color=True)
    lines = output.getvalue().splitlines()
    assert any(line.startswith("ok      database ") for line in lines)
    assert any("→ Start `celery" in line for line in lines)


def test_a_database_that_is_away_is_named_and_what_needs_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    for alias in ("default", "owner"):
        connections[alias].close()
        monkeypatch.setitem(connections[alias].settings_dict, "PORT", str(free_port()))
    found = findings()
    assert found["database"]["state"] == found["database owner"]["state"] == "wrong"
    assert "Is DATABASE_URL right" in found["database"]["advice"]
    assert found["migrations"]["state"] == found["isolation"]["state"] == "skipped"


def test_an_application_that_owns_the_tables_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    connections["default"].close()
    for name in ("USER", "PASSWORD"):
        monkeypatch.setitem(connections["default"].settings_dict, name, connections["owner"].settings_dict[name])
    found = findings()
    connections["default"].close()
    assert found["database"]["state"] == "wrong"
    assert "owns" in found["database"]["sentence"]


def test_a_table_without_row_level_security_is_named() -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE voice_call DISABLE ROW LEVEL SECURITY")
        try:
            found = findings()
        finally:
            cursor.execute("ALTER TABLE voice_call ENABLE ROW LEVEL SECURITY")
    assert found["isolation"]["state"] == "wrong"
    assert "voice_call" in found["isolation"]["sentence"]


def test_a_valkey_that_is_away_is_named() -> None:
    found = findings(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert found["valkey"]["state"] == "wrong"
    assert found["tasks"]["state"] == "skipped"


def test_secrets_that_everybody_knows_are_wrong() -> None:
    found = findings(SECRET_KEY="insecure-no-secret-key-was-set")
    assert found["settings"]["state"] == "wrong"
    assert "WARMLINE_SECRET_KEY" in found["settings"]["sentence"]


def test_a_language_model_that_does_not_answer_is_wrong() -> None:
    found = findings(LLM_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    assert found["language model"]["state"] == "wrong"
