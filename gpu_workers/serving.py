"""The HTTP side of every worker: one WebSocket a session, its admission, and how the worker is.

Knows the Moshi protocol's order of messages, not what engines do nor how the process was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from gpu_workers import logs, protocol, tokens
from gpu_workers.engine import Engine, Identity
from gpu_workers.line import Line, LineClosed, receive_binary
from gpu_workers.metrics import Metrics
from gpu_workers.protocol import CloseCode, Kind, Start

logger = logging.getLogger(__name__)

ANONYMOUS_START_SECONDS = 0.5
"""Moshi's own clients send no `start`, and wait for the handshake: after so long they get a default agent."""
START_TIMEOUT_SECONDS = 10.0
"""The gateway, known by its session token, sends `start` at once; it may be far away, and never means the default."""

CLOSING_SECONDS = 2.0

HEARTBEAT_SECONDS = 20.0
"""How often the other side is asked, by a WebSocket ping, whether it is there."""


@dataclasses.dataclass(slots=True)
class Session:
    id: str
    began_at: float = dataclasses.field(default_factory=time.monotonic)
    socket: web.WebSocketResponse | None = None


class Worker:
    """One engine behind a port."""

    def __init__(self, engine: Engine, identity: Identity) -> None:
        self.identity = identity
        self.metrics = Metrics()
        self.metrics.max_sessions.set(identity.max_sessions)
        self._engine = engine
        self._sessions: dict[str, Session] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False
        self._boot_ms = 0.0
        self._ready_at: float | None = None
        # Opus is the only work of the serving layer that takes long enough to disturb others.
        self._codec_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="opus")
        self.application = web.Application()
        self.application.add_routes(
            [
                web.get("/api/chat", self.chat),
                web.get("/healthz", self.healthz),
                web.get("/metrics", self.show_metrics),
                web.get("/status", self.status),
            ]
        )

    def became_ready(self, *, boot_ms: float) -> None:
        self._boot_ms = boot_ms
        self._ready_at = time.monotonic()
        self.metrics.boot_seconds.labels(str(self.identity.boot)).set(boot_ms / 1000)

    async def drain(self, *, grace_seconds: float) -> None:
        """Take no more sessions, wait for the live ones, and close those that take longer."""
        self._draining = True
        logger.info("draining", extra={"fields": {"sessions": len(self._sessions)}})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout=grace_seconds)
        sockets = [session.socket for session in self._sessions.values() if session.socket is not None]
        await asyncio.gather(*(_close(socket, CloseCode.GOING_AWAY) for socket in sockets))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout=CLOSING_SECONDS)
        self._codec_threads.shutdown(wait=False)

    # How the worker is

    async def healthz(self, request: web.Request) -> web.Response:
        ready = self._ready_at is not None and not self._draining
        return web.json_response(
            {"ok": ready, "engine": self._engine.kind, "draining": self._draining}, status=200 if ready else 503
        )

    async def show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.to_text(), content_type="text/plain", charset="utf-8")

    async def status(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        return web.json_response(
            {
                "sessions": [
                    {"id": session.id, "age_seconds": round(now - session.began_at, 3)}
                    for session in self._sessions.values()
                ],
                "max_sessions": self.identity.max_sessions,
                "draining": self._draining,
                "container": self.identity.container,
                "boot": str(self.identity.boot),
                "boot_ms": round(self._boot_ms, 1),
            }
        )

    # Sessions

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Admit one session and run it. Refusals come before the upgrade, as HTTP errors in JSON."""
        session_id: str | None = uuid.uuid4().hex
        if self.identity.session_key is not None:
            session_id = tokens.read_session(self.identity.session_key, request.headers.get(tokens.HEADER))
        if session_id is None:
            return self._refuse(401, "bad_token", "The session token is missing or is not this container's.")
        if self._draining:
            return self._refuse(503, "draining", "This container takes no more sessions.")
        if session_id in self._sessions:
            return self._refuse(409, "session_in_use", "This session is connected already.")
        if len(self._sessions) >= self.identity.max_sessions:
            return self._refuse(503, "at_capacity", CloseCode.WORKER_AT_CAPACITY.reason)

        # No await between the check and the taking of the place: two callers cannot both get the last one.
        session = self._sessions[session_id] = Session(session_id)
        self._empty.clear()
        self.metrics.sessions.set(len(self._sessions))
        try:
            session.socket = web.WebSocketResponse(
                compress=False, max_msg_size=protocol.MAX_MESSAGE_BYTES, heartbeat=HEARTBEAT_SECONDS
            )
            await session.socket.prepare(request)
            why = await self._serve(session, session.socket, is_from_gateway=tokens.HEADER in request.headers)
            self.metrics.ended.labels(why).inc()
            logger.info(
                "session ended",
                extra={
                    "fields": {
                        "session": session.id,
                        "why": why,
                        "seconds": round(time.monotonic() - session.began_at, 3),
                    }
                },
            )
            return session.socket
        finally:
            del self._sessions[session_id]
            if not self._sessions:
                self._empty.set()
            self.metrics.sessions.set(len(self._sessions))

    def _refuse(self, status: int, code: str, sentence: str) -> web.Response:
        self.metrics.refused.labels(code).inc()
        logger.info("session refused", extra={"fields": {"why": code}})
        return web.json_response({"error": code, "sentence": sentence}, status=status)

    def _count_turn(self, document: dict[str, Any]) -> None:
        if document["type"] == "turn" and document["speech_ended_message"] is not None:
            for part, value_ms in document["parts_ms"].items():
                self.metrics.turn_part_seconds.labels(part).observe(value_ms / 1000)

    async def _serve(self, session: Session, socket: web.WebSocketResponse, *, is_from_gateway: bool) -> str:
        """Run a session until it ends, close its socket, and return why it ended."""
        try:
            start, first_message = await _receive_start(socket, must_come=is_from_gateway)
            logs.call_id.set(start.call_id)
            line = Line(socket, self._codec_threads, received=first_message, observe=self._count_turn)
            await line.send(protocol.handshake())
            ready_age_ms = (session.began_at - (self._ready_at or session.began_at)) * 1000
            await line.send_metadata(
                protocol.boot(
                    boot=self.identity.boot,
                    boot_ms=self._boot_ms,
                    ready_age_ms=max(0.0, ready_age_ms),
                    container=self.identity.container,
                )
            )
            logger.info("session began", extra={"fields": {"session": session.id, **start.trace}})
            await _first_to_end(
                asyncio.create_task(self._engine.converse(start, line), name="engine"),
                asyncio.create_task(line.play(), name="playout"),
            )
        except LineClosed as closed:
            if closed.sentence:
                await _send_quietly(socket, protocol.error(closed.sentence))
            await _close(socket, closed.code)
            return closed.code.name.lower()
        except ConnectionError:
            return "caller_gone"
        except Exception:
            logger.exception("the engine failed")
            await _send_quietly(socket, protocol.error(CloseCode.INTERNAL_ERROR.reason))
            await _close(socket, CloseCode.INTERNAL_ERROR)
            return "failed"
        if socket.closed:
            return "caller_hung_up"
        await _close(socket, CloseCode.NORMAL)
        return "agent_hung_up"


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


async def _first_to_end(*tasks: asyncio.Task[None]) -> None:
    """Wait until one of the tasks ends, stop the others, and raise what the ended one raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _send_quietly(socket: web.WebSocketResponse, message: bytes) -> None:
    try:
        await asyncio.wait_for(socket.send_bytes(message), timeout=CLOSING_SECONDS)
    except (ConnectionError, TimeoutError):
        logger.info("the caller was gone before the error could be told")


async def _close(socket: web.WebSocketResponse, code: CloseCode) -> None:
    try:
        await asyncio.wait_for(socket.close(code=code, message=code.reason.encode()[:120]), timeout=CLOSING_SECONDS)
    except (ConnectionError, TimeoutError):
        logger.info("the caller was gone before the close")
