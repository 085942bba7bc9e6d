"""The HTTP side of every worker: one WebSocket a session, its admission, and how the worker is.

Knows neither what engines do in a session nor how the process was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from gpu_workers import protocol, tokens
from gpu_workers.engine import Engine, Identity
from gpu_workers.metrics import Metrics
from gpu_workers.protocol import CloseCode
from gpu_workers.visit import CLOSING_SECONDS, Visit, close, send_quietly

logger = logging.getLogger(__name__)

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
                web.get(engine.path, self.take_session),
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
            if self._engine.refusal is not None:
                return await self._refuse_on_socket(request, self._engine.refusal)
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
            del self._sessions[session_id]
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
        ready_age_ms = (session.began_at - (self._ready_at or session.began_at)) * 1000
        return Visit(
            session_id=session.id,
            socket=socket,
            query=dict(request.query),
            is_from_gateway=tokens.HEADER in request.headers,
            boot=protocol.boot(
                boot=self.identity.boot,
                boot_ms=self._boot_ms,
                ready_age_ms=max(0.0, ready_age_ms),
                container=self.identity.container,
            ),
            metrics=self.metrics,
            codec_threads=self._codec_threads,
        )
