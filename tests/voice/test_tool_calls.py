"""The endpoint at which a worker runs an agent's tools: who may, what is checked, what is kept."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from agents.models import Message
from content.models import ToolRun
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.voice import factories
from voice.call_tokens import issue_call_token
from voice.models import Call

MESSAGE = {"name": "Dora", "phone": "4155550123", "message": "Please call me back about my colour."}


@pytest.fixture
def call(acme: Tenant) -> Call:
    with enter_tenant(acme.id):
        return factories.create_call(agent=factories.create_agent(tools=("take_message", "check_availability")))


def run(call: Call, name: str = "take_message", *, token: str | None = None, body: Any = None) -> Any:
    if token is None:
        token = issue_call_token(call_id=call.id, tenant_id=call.tenant_id)
    body = {"arguments": MESSAGE, "turn": 2} if body is None else body
    return Client().post(
        f"/internal/calls/{call.id}/tools/{name}",
        data=body if isinstance(body, str) else json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )


def runs(tenant: Tenant) -> list[ToolRun]:
    with enter_tenant(tenant.id):
        return list(ToolRun.objects.all())


def test_a_tool_runs_and_is_kept_with_what_went_in_and_out(acme: Tenant, call: Call) -> None:
    response = run(call)
    assert (response.status_code, response.json()["ok"]) == (200, True)
    with enter_tenant(acme.id):
        assert Message.objects.count() == 1
        (kept,) = ToolRun.objects.all()
        assert (kept.call_id, kept.turn_index, kept.name, kept.ok) == (call.id, 2, "take_message", True)
        assert kept.arguments == MESSAGE
        assert kept.result == response.json()
        assert kept.duration_ms >= 0


def test_what_a_tool_refuses_is_an_answer_and_is_kept(acme: Tenant, call: Call) -> None:
    response = run(call, body={"arguments": {"name": "Dora"}, "turn": 1})
    assert response.status_code == 200
    document = response.json()
    assert document["ok"] is False and document["error"]["sentence"] and document["error"]["slot"]
    (kept,) = runs(acme)
    assert (kept.ok, kept.error_code) == (False, document["error"]["code"])


def test_a_tool_that_breaks_is_an_answer_is_kept_and_leaves_nothing_half_done(
    acme: Tenant, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agents import tools

    def break_down(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
        factories.create_agent(slug="half-done")
        raise RuntimeError("a bug")

    monkeypatch.setitem(tools.TOOLS, "take_message", break_down)
    response = run(call)
    assert (response.status_code, response.json()["error"]["code"]) == (200, "failed")
    (kept,) = runs(acme)
    assert kept.error_code == "failed"
    with enter_tenant(acme.id):
        assert not factories.Agent.objects.filter(slug="half-done").exists()


@pytest.mark.parametrize("token", ["", "made-up", "a:b:c"])
def test_a_bad_token_is_refused(acme: Tenant, call: Call, token: str) -> None:
    assert run(call, token=token).status_code == 401
    assert not runs(acme)


def test_a_token_of_another_call_is_refused(call: Call) -> None:
    token = issue_call_token(call_id=uuid.uuid4(), tenant_id=call.tenant_id)
    assert run(call, token=token).status_code == 401


def test_a_token_that_names_another_tenant_finds_no_call(call: Call, rival: Tenant) -> None:
    token = issue_call_token(call_id=call.id, tenant_id=rival.id)
    assert run(call, token=token).status_code == 404
    assert not runs(rival)


def test_an_old_token_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issue_call_token(call_id=call.id, tenant_id=call.tenant_id)
    monkeypatch.setattr("voice.call_tokens.MAX_AGE_SECONDS", -1)
    assert run(call, token=token).status_code == 401


def test_a_call_that_has_ended_runs_no_tools(acme: Tenant, call: Call) -> None:
    def end(seconds_ago: float) -> None:
        ended_at = timezone.now() - datetime.timedelta(seconds=seconds_ago)
        with enter_tenant(acme.id):
            Call.objects.update(status="ended", ended_at=ended_at)

    end(seconds_ago=1)
    assert run(call).status_code == 200
    end(seconds_ago=10)
    assert run(call).status_code == 404


@pytest.mark.parametrize("name", ["cancel_appointment", "no_such_tool"])
def test_only_the_agents_own_tools_run(acme: Tenant, call: Call, name: str) -> None:
    assert run(call, name).status_code == 404
    assert not runs(acme)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        "3",
        '{"arguments": []}',
        '{"arguments": {}, "turn": -1}',
        '{"turn": "x"}',
        '{"turn": true}',
        '{"arguments": {"name": "' + 70_000 * "x" + '"}}',
    ],
)
def test_a_body_that_is_not_of_its_form_is_told_in_a_sentence(acme: Tenant, call: Call, body: str) -> None:
    response = run(call, body=body)
    assert response.status_code == 400
    assert response.json()["error"]["sentence"].endswith(".")
    assert not runs(acme)


def test_only_post_is_answered(call: Call) -> None:
    assert Client().get(f"/internal/calls/{call.id}/tools/take_message").status_code == 405


def test_a_body_of_endless_brackets_is_told_what_is_wrong(call: Call) -> None:
    response = run(call, body=4_000 * '{"arguments":')
    assert (response.status_code, response.json()["error"]["sentence"]) == (400, "The body is not a JSON object.")


def test_half_a_sign_in_the_arguments_is_kept_with_the_run(acme: Tenant, call: Call) -> None:
    response = run(call, "check_availability", body=r'{"arguments": {"service": "cut \ud83d"}, "turn": 1}')
    assert response.status_code == 200
    with enter_tenant(acme.id):
        assert ToolRun.objects.get().arguments == {"service": "cut \ud83d"}
