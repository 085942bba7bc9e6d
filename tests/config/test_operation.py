"""What load balancers and Prometheus see of the web process."""

from __future__ import annotations

import pytest
from django.test import Client, override_settings

from tests.ports import free_port


@pytest.fixture
def nobody() -> Client:
    return Client()


def test_health_names_each_dependency(nobody: Client) -> None:
    response = nobody.get("/healthz")
    found = response.json()
    assert response.status_code == 200
    assert found["ok"] is True
    assert found["dependencies"]["database"] == {"ok": True, "optional": False}
    assert found["dependencies"]["valkey"] == {"ok": True, "optional": False}
    # No supervisor runs beside this test: pages go on without it.
    assert found["dependencies"]["local_supervisor"] == {"ok": False, "optional": True}


def test_health_is_503_without_valkey_and_tells_strangers_no_address(nobody: Client) -> None:
    port = free_port()
    with override_settings(REDIS_URL=f"redis://:hunter2@127.0.0.1:{port}/0"):
        response = nobody.get("/healthz")
    assert response.status_code == 503
    assert response.json()["ok"] is False
    assert response.json()["dependencies"]["valkey"]["ok"] is False
    assert str(port) not in response.content.decode()
    assert "hunter2" not in response.content.decode()


def test_health_takes_no_other_method(nobody: Client) -> None:
    assert nobody.post("/healthz").status_code == 405


def test_metrics_are_prometheus_text(nobody: Client) -> None:
    response = nobody.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    assert b"# TYPE python_info gauge" in response.content


@override_settings(METRICS_TOKEN="right")
def test_metrics_want_their_token_where_there_is_one(nobody: Client) -> None:
    assert nobody.get("/metrics").status_code == 401
    assert nobody.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert nobody.get("/metrics", headers={"Authorization": "Bearer right"}).status_code == 200
