"""The HTTP side of every worker: its sessions, their admission, and how the worker is.

A session is a WebSocket; of engines that answer plain requests, all that comes with one session token.

Knows neither what engines do in a session nor how the process was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from gpu_workers import protocol, tokens
from gpu_workers.engine import Engine, Identity
from gpu_workers.http_engine import HttpEngine
from gpu_workers.metrics import Metrics
from gpu_workers.protocol import CloseCode
from gpu_workers.visit import CLOSING_SECONDS, Visit, close, send_quietly

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0
"""How often the other side is asked, by a WebSocket ping, whether it is there."""
IDLE_SECONDS = 90.0
"""A session of plain requests ends when none has come for so long: a caller may be silent for a minute."""
SESSION_PATH = "/session"
"""Deleted by who holds a session of plain requests and needs it no more."""
BOOT_HEADER = "Warmline-Boot"
"""Tells, in answers to plain requests, how this container came to be: JSON, as protocol.boot() makes it."""


_BOOT = web.RequestKey("boot", str)


@dataclasses.dataclass(slots=True)
class Session:
    id: str
    began_at: float = dataclasses.field(default_factory=time.monotonic)
    socket: web.WebSocketResponse | None = None
    requests: int = 0
    """Plain ones that are being answered."""
    idle: asyncio.TimerHandle | None = None


class Worker:
    """One engine behind a port."""

    def __init__(self, engine: Engine | HttpEngine, identity: Identity) -> None:
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
        self.application = web.Application(client_max_size=protocol.MAX_MESSAGE_BYTES)
        if isinstance(engine, HttpEngine):
            served = [web.route(method, path, self.take_request) for method, path in engine.routes]
            served.append(web.delete(SESSION_PATH, self.leave))
            self.application.on_response_prepare.append(_tell_boot)
        else:
            served = [web.get(engine.path, self.take_session)]
        self.application.add_routes(
            [
                *served,
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
        await asyncio.gather(*(close(socket, CloseCode.GOING_AWAY) for socket in sockets))
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

    async def take_session(self, request: web.Request) -> web.StreamResponse:
        """Admit one session and run it. Refusals are HTTP errors in JSON, before the upgrade, or `engine.refusal`."""
        assert not isinstance(self._engine, HttpEngine)
        session_id = self._read_session(request)
        if session_id is None:
            return self._refuse(401, "bad_token", "The session token is missing or is not this container's.")
        if self._draining:
            return self._refuse(503, "draining", "This container takes no more sessions.")
        if session_id in self._sessions:
            return self._refuse(409, "session_in_use", "This session is connected already.")
        if self._is_full:
            if self._engine.refusal is not None:
                return await self._refuse_on_socket(request, self._engine.refusal)
            return self._refuse(503, "at_capacity", CloseCode.WORKER_AT_CAPACITY.reason)

        # No await between the check and the taking of the place: two callers cannot both get the last one.
        session = self._begin(session_id)
        try:
            session.socket = web.WebSocketResponse(
                compress=False, max_msg_size=protocol.MAX_MESSAGE_BYTES, heartbeat=HEARTBEAT_SECONDS
            )
            await session.socket.prepare(request)
            why = await self._engine.serve(self._visit(session, session.socket, request))
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
            self._end(session)

    async def take_request(self, request: web.Request) -> web.StreamResponse:
        """Answer one plain request. A session takes its place with its first one, and keeps it while it is used."""
        assert isinstance(self._engine, HttpEngine)
        session_id = self._read_session(request)
        if session_id is None:
            return self._refuse(401, "bad_token", "The session token is missing or is not this container's.")
        session = self._sessions.get(session_id)
        if session is None:
            if self._draining:
                return self._refuse(503, "draining", "This container takes no more sessions.")
            if self._is_full:
                return self._refuse(503, "at_capacity", CloseCode.WORKER_AT_CAPACITY.reason)
            session = self._begin(session_id)
        session.requests += 1
        if session.idle is not None:
            session.idle.cancel()
        request[_BOOT] = json.dumps(self._boot(session))
        try:
            return await self._engine.answer(request)
        finally:
            session.requests -= 1
            if not session.requests:
                idle_seconds = IDLE_SECONDS if self._has_sessions(request) else 0.0
                session.idle = asyncio.get_running_loop().call_later(idle_seconds, self._end, session)

    async def leave(self, request: web.Request) -> web.Response:
        """End a session of plain requests; nothing happens where it has ended, or an answer is still on its way."""
        session = self._sessions.get(self._read_session(request) or "")
        if session is not None and not session.requests:
            if session.idle is not None:
                session.idle.cancel()
            self._end(session)
        return web.Response(status=204)

    def _read_session(self, request: web.Request) -> str | None:
        """Return a request's session, a new one where no tokens are asked and none is named; None for a bad token."""
        if self.identity.session_key is None:
            return request.headers.get(tokens.SESSION_HEADER) or uuid.uuid4().hex
        return tokens.read_session(self.identity.session_key, request.headers.get(tokens.HEADER))

    def _has_sessions(self, request: web.Request) -> bool:
        return self.identity.session_key is not None or tokens.SESSION_HEADER in request.headers

    @property
    def _is_full(self) -> bool:
        return len(self._sessions) >= self.identity.max_sessions

    def _begin(self, session_id: str) -> Session:
        session = self._sessions[session_id] = Session(session_id)
        self._empty.clear()
        self.metrics.sessions.set(len(self._sessions))
        return session

    def _end(self, session: Session) -> None:
        del self._sessions[session.id]
        if not self._sessions:
            self._empty.set()
        self.metrics.sessions.set(len(self._sessions))

    def _refuse(self, status: int, code: str, sentence: str) -> web.Response:
        self.metrics.refused.labels(code).inc()
        logger.info("session refused", extra={"fields": {"why": code}})
        return web.json_response({"error": code, "sentence": sentence}, status=status)

    async def _refuse_on_socket(self, request: web.Request, refusal: bytes) -> web.WebSocketResponse:
        """Refuse a client that understands nothing else than its own protocol."""
        self.metrics.refused.labels("at_capacity").inc()
        logger.info("session refused", extra={"fields": {"why": "at_capacity"}})
        socket = web.WebSocketResponse(compress=False, timeout=CLOSING_SECONDS)
        await socket.prepare(request)
        await send_quietly(socket, refusal)
        await close(socket, CloseCode.WORKER_AT_CAPACITY)
        return socket

    def _visit(self, session: Session, socket: web.WebSocketResponse, request: web.Request) -> Visit:
        return Visit(
            session_id=session.id,
            socket=socket,
            query=dict(request.query),
            is_from_gateway=not request.headers.keys().isdisjoint((tokens.HEADER, tokens.SESSION_HEADER)),
            boot=self._boot(session),
            metrics=self.metrics,
            codec_threads=self._codec_threads,
        )

    def _boot(self, session: Session) -> dict[str, Any]:
        ready_age_ms = (session.began_at - (self._ready_at or session.began_at)) * 1000
        return protocol.boot(
            boot=self.identity.boot,
            boot_ms=self._boot_ms,
            ready_age_ms=max(0.0, ready_age_ms),
            container=self.identity.container,
        )


async def _tell_boot(request: web.Request, response: web.StreamResponse) -> None:
    if (boot := request.get(_BOOT)) is not None:
        response.headers[BOOT_HEADER] = boot
