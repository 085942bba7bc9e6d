"""What the platform cannot work without, each asked in its own way: for `/healthz`, and for `manage.py doctor`.

A question raises what is wrong, or returns a few words about what it found. None waits longer than its limit.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connections

TIMEOUT_SECONDS = 2.0
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotWorking(Exception):
    """A dependency answered, and what it said is not good."""


def ask_database(alias: str = "default") -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version')")
        return f"PostgreSQL {cursor.fetchone()[0]}"


def ask_valkey() -> str:
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
    try:
        found = client.info("server")
    finally:
        client.close()
    return f"Valkey {found['valkey_version']}" if "valkey_version" in found else f"Redis {found['redis_version']}"


def ask_supervisor() -> str:
    """Ask the local backend's supervisor how it is."""
    document = fetch_json(f"{settings.LOCAL_SUPERVISOR_URL}/healthz")
    return f"{document['deployments']} deployments"


def ask_channel_layer() -> str:
    async def send_and_receive() -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "question"})
        await layer.receive(channel)

    async_to_sync(_within_limit)(send_and_receive)
    return "a message came back"


def fetch_json(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object at an address.

    Raises:
        NotWorking: there is none, or it cannot be reached in time.
    """
    try:
        with NO_PROXY.open(urllib.request.Request(url, headers=headers or {}), timeout=TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as problem:
        raise NotWorking(f"{url} answers {problem.code}.") from problem
    except (OSError, ValueError) as problem:
        raise NotWorking(f"{url} cannot be read: {getattr(problem, 'reason', problem)}.") from problem


def problem_with(question: Callable[[], object]) -> str | None:
    """Return None where the dependency answers, else what is wrong with it."""
    try:
        question()
    except Exception as problem:
        # Whatever it is: the answer names it, and goes on to the next dependency.
        return f"{type(problem).__name__}: {problem}".strip().splitlines()[0]
    return None


async def _within_limit(question: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await question()
