"""Tools over HTTP: whatever goes wrong is an answer in words, and never an exception."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gpu_workers.cascade.brain import tool_client
from gpu_workers.cascade.brain.tool_client import HttpToolClient
from gpu_workers.protocol import ToolsEndpoint
from tests.gpu_workers.brain.servers import ToolEndpoint, serving

UNREACHABLE = "I can't reach our system at the moment."


@pytest.fixture
def endpoint() -> ToolEndpoint:
    return ToolEndpoint()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def client(endpoint: ToolEndpoint, http: aiohttp.ClientSession) -> AsyncIterator[HttpToolClient]:
    async with serving("/internal/calls/7/tools/{name}", endpoint.answer) as address:
        yield HttpToolClient(ToolsEndpoint(f"{address}/internal/calls/7/tools", "the token"), http)


async def test_arguments_turn_and_token_are_sent(client: HttpToolClient, endpoint: ToolEndpoint) -> None:
    await client.call("book_appointment", {"service": "haircut"}, 3)
    assert endpoint.asked == [
        ("book_appointment", {"arguments": {"service": "haircut"}, "turn": 3}, "Bearer the token")
    ]


async def test_a_result_is_returned_with_how_long_it_took(client: HttpToolClient, endpoint: ToolEndpoint) -> None:
    endpoint.answers = {"ok": True, "result": {"starts_at": "2026-03-05T15:00"}}
    endpoint.delay_seconds = 0.05
    reply = await client.call("book_appointment", {}, 1)
    assert reply.ok and reply.result == {"starts_at": "2026-03-05T15:00"}
    assert 50 <= reply.duration_ms < 5000


async def test_a_refusal_names_its_sentence_its_question_and_alternatives(
    client: HttpToolClient, endpoint: ToolEndpoint
) -> None:
    endpoint.answers = {
        "ok": False,
        "error": {"code": "slot_taken", "sentence": "That time is taken.", "slot": "starts_at"},
        "result": {"alternatives": ["2026-03-05T16:00", None]},
    }
    reply = await client.call("book_appointment", {}, 1)
    assert (reply.ok, reply.code, reply.sentence, reply.slot) == (
        False,
        "slot_taken",
        "That time is taken.",
        "starts_at",
    )
    assert reply.alternatives == ["2026-03-05T16:00"]


@pytest.mark.parametrize(
    ("status", "answers", "code"),
    [
        (401, {"error": "bad token"}, "status_401"),
        (404, "<h1>Not found</h1>", "ContentTypeError"),
        (500, {}, "status_500"),
        (502, "<h1>Bad gateway</h1>", "ContentTypeError"),
        (200, ["a list"], "status_200"),
        (200, {"ok": "yes", "result": ["a list"], "error": "text"}, ""),
    ],
)
async def test_an_answer_of_another_form_is_a_failure_in_words(
    client: HttpToolClient, endpoint: ToolEndpoint, status: int, answers: Any, code: str
) -> None:
    endpoint.status, endpoint.answers = status, answers
    reply = await client.call("book_appointment", {}, 1)
    assert not reply.ok and reply.code == code and reply.result == {} and reply.alternatives == []
    assert reply.sentence == UNREACHABLE or not code


async def test_a_tool_that_takes_too_long_is_a_failure_in_words(
    client: HttpToolClient, endpoint: ToolEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_client, "TIMEOUT_SECONDS", 0.1)
    endpoint.delay_seconds = 30
    reply = await client.call("book_appointment", {}, 1)
    assert not reply.ok and "Timeout" in reply.code and reply.sentence == UNREACHABLE


async def test_nobody_listening_is_a_failure_in_words(http: aiohttp.ClientSession) -> None:
    client = HttpToolClient(ToolsEndpoint("http://127.0.0.1:1/tools", "the token"), http)
    reply = await client.call("book_appointment", {}, 1)
    assert not reply.ok and reply.sentence == UNREACHABLE
