"""One session as an engine gets it: an open WebSocket, and what the serving layer knows of it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from concurrent.futures import Executor
from typing import Any

from aiohttp import web

from gpu_workers.metrics import Metrics
from gpu_workers.protocol import CloseCode

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 2.0
SEND_TIMEOUT_SECONDS = 10.0
"""Who takes nothing for so long is gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """What an engine serves a session with."""

    session_id: str
    socket: web.WebSocketResponse
    query: dict[str, str]
    """Of the request's address."""
    is_from_gateway: bool
    """It came with a session token."""
    boot: dict[str, Any]
    """How this container started, as protocol.boot() tells it."""
    metrics: Metrics
    codec_threads: Executor
    """Opus is coded there: it takes long enough to disturb other sessions."""


async def first_to_end(*tasks: asyncio.Task[None]) -> None:
    """Wait until one of the tasks ends, stop the others, and raise what the ended one raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def send(socket: web.WebSocketResponse, message: bytes) -> None:
    """Send one message.

    Raises:
        ConnectionError: the other side has gone, or takes nothing any more.
    """
    try:
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            await socket.send_bytes(message)
    except TimeoutError:
        raise ConnectionResetError("the other side takes nothing any more") from None


async def send_quietly(socket: web.WebSocketResponse, message: bytes) -> None:
    try:
        await asyncio.wait_for(socket.send_bytes(message), timeout=CLOSING_SECONDS)
    except (ConnectionError, TimeoutError):
        logger.info("the caller was gone before the error could be told")


async def close(socket: web.WebSocketResponse, code: CloseCode) -> None:
    try:
        await asyncio.wait_for(socket.close(code=code, message=code.reason.encode()[:120]), timeout=CLOSING_SECONDS)
    except (ConnectionError, TimeoutError):
        logger.info("the caller was gone before the close")
