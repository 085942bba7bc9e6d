"""The gateway's process: `python -m config.gateway --port 8001`, or `config.gateway:application` in any ASGI server.

A raw ASGI application with a database pool of its own. Calls are voice.gateway's; here are the process's start and
stop, `/healthz` and `/metrics`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import hmac
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

import structlog  # noqa: E402  (Django must be set up first)
import uvicorn  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from django.conf import settings  # noqa: E402
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest  # noqa: E402

from config.checks import refuse_insecure_start  # noqa: E402
from config.pool import gateway_pool  # noqa: E402
from config.tracing import start_tracing  # noqa: E402
from content.recordings import open_storage  # noqa: E402
from gpu_workers.protocol import MAX_MESSAGE_BYTES  # noqa: E402
from provisioning.backends import BACKENDS, OpenBackends  # noqa: E402
from voice.caller_protocol import CallerProtocol  # noqa: E402
from voice.gateway import Gateway  # noqa: E402
from voice.options import Options  # noqa: E402
from voice.request_protocol import RequestProtocol, WaitingRoom  # noqa: E402
from voice.takeovers import hear_takeovers  # noqa: E402

refuse_insecure_start()
log = structlog.get_logger(__name__)

HEALTH_TIMEOUT_SECONDS = 2.0
UNREAD_TIMEOUT_SECONDS = 30
HEALTH_KEPT_SECONDS = 1.0
"""Whoever asks in between gets the answer of before: asking takes a connection that callers need."""


class GatewayApplication:
    """Routes ASGI scopes: WebSockets to calls, HTTP to health and metrics, the lifespan to start and stop."""

    def __init__(self) -> None:
        self.gateway: Gateway | None = None
        self._problems: asyncio.Future[tuple[str | None, str | None]] | None = None
        self._asked = 0.0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        match scope["type"]:
            case "websocket":
                assert self.gateway is not None, "the server must run the lifespan"
                await self.gateway.take_call(scope, receive, send)
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                self.gateway = await stack.enter_async_context(running_gateway())
            except Exception as problem:
                log.exception("gateway.not_started")
                await send({"type": "lifespan.startup.failed", "message": str(problem)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            if not self.gateway.is_draining:  # a signal has not done it already
                await self.gateway.drain()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        status, content_type, body = 404, "text/plain", b"The gateway answers /healthz, /metrics and calls.\n"
        if scope["path"] == "/healthz":
            health = await self._health()
            status, content_type = 200 if health["ok"] else 503, "application/json"
            body = json.dumps(health).encode()
        elif scope["path"] == "/metrics":
            if not _may_read_metrics(scope):
                status, body = 401, b"Send the token of METRICS_TOKEN as Authorization: Bearer.\n"
            else:
                status, content_type, body = 200, CONTENT_TYPE_LATEST, generate_latest()
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _health(self) -> dict[str, Any]:
        """Return each dependency by name. Without the database no call can begin; live updates are optional."""
        assert self.gateway is not None
        database, layer = await self._problems_of_dependencies()
        draining = self.gateway.is_draining
        return {
            "ok": database is None and not draining,
            "draining": draining,
            "calls": len(self.gateway.calls),
            "dependencies": {
                "database": {"ok": database is None, "optional": False, "problem": database},
                "live_updates": {"ok": layer is None, "optional": True, "problem": layer},
            },
        }

    async def _problems_of_dependencies(self) -> tuple[str | None, str | None]:
        """Return what is wrong with database and live updates, asked at most once a second for all who want to know."""
        is_old = time.monotonic() - self._asked > HEALTH_KEPT_SECONDS
        if self._problems is None or (self._problems.done() and is_old):
            self._asked = time.monotonic()
            self._problems = asyncio.gather(_reaches(self._ask_database()), _reaches(_ask_channel_layer()))
        return await asyncio.shield(self._problems)

    async def _ask_database(self) -> None:
        assert self.gateway is not None
        async with self.gateway.pool.connection(timeout=HEALTH_TIMEOUT_SECONDS) as connection:
            await connection.execute("SELECT 1")


@contextlib.asynccontextmanager
async def running_gateway() -> AsyncIterator[Gateway]:
    """Start tracing and the database pool, and stop them in the end."""
    options = Options.from_environment()
    stop_tracing = start_tracing("warmline-gateway")
    pool = gateway_pool(options.database_url)
    # Open without waiting: a gateway that starts before its database says so in /healthz and recovers by itself.
    await pool.open(wait=False)
    try:
        async with OpenBackends() as backends:
            await _open_backends(backends)
            await _open_recordings()
            gateway = Gateway(options, pool, backends)
            _drain_before_stopping(gateway)
            log.info("gateway.started", region=options.region)
            _collect_garbage_seldom()
            upkeep = [
                asyncio.create_task(gateway.quiet_calls.keep_writing(), name="write checkpoints"),
                asyncio.create_task(gateway.rounds.keep_going(), name="go round the calls"),
                asyncio.create_task(gateway.budgets.keep_reading(), name="read budgets"),
                asyncio.create_task(
                    hear_takeovers(options.database_url, gateway.hear_takeover), name="hear of takeovers"
                ),
            ]
            yield gateway
            for task in upkeep:
                task.cancel()
    finally:
        await pool.close()
        stop_tracing()


def _collect_garbage_seldom() -> None:
    """Leave what stands since the start alone, and look through the rest less often: a full collection stops all audio.

    What a call leaves behind is mostly freed by counting; what is not can wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


async def _open_backends(backends: OpenBackends) -> None:
    """Open all backends now: importing a provider's client takes time that the first caller would wait."""
    for name in BACKENDS:
        try:
            await backends.get(name)
        except Exception:  # one that is not configured is no reason not to serve the others
            log.exception("backend.not_opened", backend=name)


async def _open_recordings() -> None:
    """Do the same with the storage of recordings, which may be a client too."""
    try:
        await asyncio.to_thread(open_storage)
    except Exception:  # no call needs it
        log.exception("recordings.not_opened")


def _drain_before_stopping(gateway: Gateway) -> None:
    """Let calls go on for a while when the process is told to stop: a server would cut them off at once.

    The server's own handler is called when the calls are done; a second signal calls it at once.
    """
    loop = asyncio.get_running_loop()
    draining: set[asyncio.Task[None]] = set()

    def stop(number: signal.Signals, server_stops: Any) -> None:
        if draining:
            server_stops(number, None)
            return
        task = loop.create_task(gateway.drain(), name="drain")
        draining.add(task)
        task.add_done_callback(lambda _: server_stops(number, None))

    for number in (signal.SIGTERM, signal.SIGINT):
        server_stops = signal.getsignal(number)
        if callable(server_stops):
            with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: a test's server
                loop.add_signal_handler(number, stop, number, server_stops)


async def _reaches(question: Any) -> str | None:
    """Return None where the dependency answers, else what is wrong with it."""
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_SECONDS):
            await question
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}".strip(": ")
    return None


async def _ask_channel_layer() -> None:
    await get_channel_layer().group_send("calls.health", {"type": "nothing"})


def _may_read_metrics(scope: dict[str, Any]) -> bool:
    token = settings.METRICS_TOKEN
    given = dict(scope["headers"]).get(b"authorization", b"")
    return not token or hmac.compare_digest(given, f"Bearer {token}".encode())


def _waiting_room() -> WaitingRoom:
    options = Options.from_environment()
    return WaitingRoom(
        seconds=options.request_seconds,
        most=options.most_requests,
        most_of_address=0 if options.behind_proxy else max(1, options.most_requests // 2),
    )


application = GatewayApplication()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the gateway.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    arguments = parser.parse_args()
    config = uvicorn.Config(
        application,
        host=arguments.host,
        port=arguments.port,
        # h11's limit on headers is the reason: the faster parser has none, and calls are few requests.
        http=functools.partial(RequestProtocol, _waiting_room()),  # type: ignore[arg-type]
        ws=CallerProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        lifespan="on",
        log_config=None,
        # An access log, and what uvicorn says at level info, would hold tickets.
        access_log=False,
        # It would take the first address of a header that anybody may write: voice.gateway reads it.
        proxy_headers=False,
        log_level="warning",
        server_header=False,
    )
    listening = config.bind_socket()
    # A caller who reads nothing keeps a connection alive that is being closed: the kernel gives up on it. Accepted
    # sockets inherit it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_SECONDS * 1000)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
