"""The Moshi protocol's order of messages: start, handshake, boot, then a conversation on a line.

What engines do with the line is theirs.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import time
import uuid
from typing import Any

from aiohttp import web

from gpu_workers import logs, protocol
from gpu_workers.line import Line, LineClosed, receive_binary
from gpu_workers.metrics import Metrics
from gpu_workers.protocol import CloseCode, Kind, Start
from gpu_workers.visit import Visit, close, first_to_end, send_quietly

logger = logging.getLogger(__name__)

ANONYMOUS_START_SECONDS = 0.5
"""Moshi's own clients send no `start`, and wait for the handshake: after so long they get a default agent."""
START_TIMEOUT_SECONDS = 10.0
"""The gateway, known by its session token, sends `start` at once; it may be far away, and never means the default."""


class ChatEngine(abc.ABC):
    """An engine that callers talk to: it holds one conversation a session."""

    path = "/api/chat"
    refusal: bytes | None = None

    @abc.abstractmethod
    async def converse(self, start: Start, line: Line) -> None:
        """Talk until the agent hangs up; cancelled when the caller does."""

    async def serve(self, visit: Visit) -> str:
        """Run a session until it ends, close its socket, and return why it ended."""
        socket = visit.socket
        try:
            start, first_message = await _receive_start(socket, must_come=visit.is_from_gateway)
            logs.call_id.set(start.call_id)
            line = Line(
                socket,
                visit.codec_threads,
                received=first_message,
                observe=lambda document: _count_turn(visit.metrics, document),
            )
            await line.send(protocol.handshake())
            await line.send_metadata(visit.boot)
            logger.info("session began", extra={"fields": {"session": visit.session_id, **start.trace}})
            await first_to_end(
                asyncio.create_task(self.converse(start, line), name="engine"),
                asyncio.create_task(line.play(), name="playout"),
            )
        except LineClosed as closed:
            if closed.sentence:
                await send_quietly(socket, protocol.error(closed.sentence))
            await close(socket, closed.code)
            return closed.code.name.lower()
        except ConnectionError:
            return "caller_gone"
        except Exception:
            logger.exception("the engine failed")
            await send_quietly(socket, protocol.error(CloseCode.INTERNAL_ERROR.reason))
            await close(socket, CloseCode.INTERNAL_ERROR)
            return "failed"
        if socket.closed:
            return "caller_hung_up"
        await close(socket, CloseCode.NORMAL)
        return "agent_hung_up"


def _count_turn(metrics: Metrics, document: dict[str, Any]) -> None:
    if document["type"] == "turn" and document["speech_ended_message"] is not None:
        for part, value_ms in document["parts_ms"].items():
            metrics.turn_part_seconds.labels(part).observe(value_ms / 1000)


async def _receive_start(socket: web.WebSocketResponse, *, must_come: bool) -> tuple[Start, bytes | None]:
    """Return what the caller's side wants this session to be, and a message that came in place of a `start`.

    Raises:
        LineClosed: the `start` message was not of its form, or had to come and did not.
        ConnectionError: the other side closed.
    """
    anonymous = Start(call_id=str(uuid.uuid4()))
    deadline = time.monotonic() + (START_TIMEOUT_SECONDS if must_come else ANONYMOUS_START_SECONDS)
    while (left_seconds := deadline - time.monotonic()) > 0:
        try:
            message = await receive_binary(socket, timeout_seconds=left_seconds)
        except TimeoutError:
            break
        if message is None:
            raise ConnectionResetError("the caller closed before the start")
        try:
            kind = protocol.read_kind(message)
            if kind is Kind.AUDIO and not must_come:
                return anonymous, message
            if kind is Kind.METADATA and (document := protocol.read_metadata(message))["type"] == "start":
                return Start.from_document(document), None
        except protocol.ProtocolError as problem:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, str(problem)) from problem
    if must_come:
        raise LineClosed(CloseCode.PROTOCOL_ERROR, "No start message came.")
    return anonymous, None
