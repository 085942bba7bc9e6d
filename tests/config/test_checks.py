"""What Warmline does not start with."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest import MonkeyPatch

from config import checks
from tests import services

SECURE = {
    "PRODUCTION": True,
    "DEBUG": False,
    "SECRET_KEY": "k" * 60,
    "CONTENT_KEY": base64.b64encode(b"c" * 32).decode(),
    "PUBLIC_URL": "https://warmline.example",
    "GATEWAY_URL": "wss://calls.warmline.example",
    "ALLOWED_HOSTS": ["warmline.example"],
    "METRICS_TOKEN": "m" * 40,
    "LOCAL_SUPERVISOR_TOKEN": "s" * 40,
    "EMAIL_HOST": "mail.warmline.example",
}


@pytest.fixture
def production(monkeypatch: MonkeyPatch) -> Any:
    def change(**changes: Any) -> None:
        for name, value in {**SECURE, **changes}.items():
            monkeypatch.setattr(f"django.conf.settings.{name}", value)

    return change


def test_a_secure_production_starts(production: Any) -> None:
    production()
    checks.refuse_insecure_start()
    assert list(checks.production_can_send_mail(None)) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SECRET_KEY": "insecure-no-secret-key-was-set"}, "config.E001"),
        ({"SECRET_KEY": "short"}, "config.E001"),
        ({"SECRET_KEY": "change-me-" * 6}, "config.E001"),
        ({"CONTENT_KEY": "Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWUhISE="}, "config.E002"),
        ({"LOCAL_SUPERVISOR_TOKEN": "change-me-" * 3}, "config.E007"),
        ({"CONTENT_KEY": ""}, "config.E002"),
        ({"CONTENT_KEY": "bm90IDMyIGJ5dGVz"}, "config.E002"),
        ({"DEBUG": True}, "config.E003"),
        ({"PUBLIC_URL": "http://warmline.example"}, "config.E004"),
        ({"GATEWAY_URL": "ws://calls.warmline.example"}, "config.E004"),
        ({"ALLOWED_HOSTS": ["*"]}, "config.E005"),
        ({"METRICS_TOKEN": ""}, "config.E006"),
        ({"LOCAL_SUPERVISOR_TOKEN": "short"}, "config.E007"),
    ],
)
def test_an_insecure_production_does_not_start(production: Any, changes: dict[str, Any], named: str) -> None:
    production(**changes)
    with pytest.raises(ImproperlyConfigured, match=named):
        checks.refuse_insecure_start()


def test_secrets_are_asked_for_outside_production_too(production: Any) -> None:
    production(PRODUCTION=False, PUBLIC_URL="http://localhost:8000", METRICS_TOKEN="")
    checks.refuse_insecure_start()
    production(PRODUCTION=False, SECRET_KEY="insecure-no-secret-key-was-set")
    with pytest.raises(ImproperlyConfigured, match="WARMLINE_SECRET_KEY"):
        checks.refuse_insecure_start()


def test_one_role_for_two_purposes_is_refused(production: Any, monkeypatch: MonkeyPatch) -> None:
    from django.db import connections

    production()
    monkeypatch.setitem(connections["default"].settings_dict, "USER", "warmline_operator")
    assert [problem.id for problem in checks.production_is_secure(None)] == ["config.E008"]


def test_an_application_that_is_superuser_does_not_start(production: Any, monkeypatch: MonkeyPatch) -> None:
    from django.db import connections

    from config import env

    production()
    superuser = env.database("DATABASE_URL", services.superuser_url())
    connections["default"].close()
    for name in ("USER", "PASSWORD"):
        monkeypatch.setitem(connections["default"].settings_dict, name, superuser[name])
    with pytest.raises(ImproperlyConfigured, match="is a superuser and bypasses row-level security"):
        checks.refuse_insecure_start()


def test_an_application_that_owns_tables_does_not_start(production: Any, monkeypatch: MonkeyPatch) -> None:
    from django.db import connections

    production()
    connections["default"].close()
    for name in ("USER", "PASSWORD"):
        monkeypatch.setitem(connections["default"].settings_dict, name, connections["owner"].settings_dict[name])
    with pytest.raises(ImproperlyConfigured, match=r"owns \d+ tables"):
        checks.refuse_insecure_start()


def test_a_production_without_a_mail_server_is_warned(production: Any) -> None:
    production(EMAIL_HOST="")
    assert [each.id for each in checks.production_can_send_mail(None)] == ["config.W001"]
