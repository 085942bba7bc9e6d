"""The engine `llm`: a language model behind OpenAI's chat completions, one session for each conversation."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import aiohttp
from aiohttp import web

from gpu_workers.engine import Identity
from gpu_workers.http_engine import HttpEngine
from gpu_workers.llm.server import ModelServer, ServerSettings
from gpu_workers.metrics import Metrics
from gpu_workers.weights import DEFAULT_CHECKPOINTS

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
FIRST_BYTE_SECONDS = 60.0
STALL_SECONDS = 30.0
"""How long the model may say nothing once it has begun."""
WATCH_SECONDS = 0.5
PASSED_HEADERS = ("Content-Type", "Cache-Control")


class LlmEngine(HttpEngine):
    kind = "llm"
    routes = (("POST", "/v1/chat/completions"), ("GET", "/v1/models"))

    def __init__(self, *, checkpoint: str | None = None, max_sessions: int = 4) -> None:
        self._max_sessions = max_sessions
        self._settings = ServerSettings.from_environment(
            model=checkpoint or DEFAULT_CHECKPOINTS["llm"], sequences=max_sessions
        )
        self._http: aiohttp.ClientSession | None = None

    @property
    def places(self) -> int:
        return self._max_sessions

    def load(self) -> None:
        """Start the model server, have it say a word, and put it to sleep.

        Raises:
            ServerFailed
        """
        self._server = ModelServer(self._settings)
        try:
            self._server.wait_until_ready()
            self._server.warm_up()
            self._server.sleep()
        except BaseException:
            self._server.stop()
            raise

    async def attach(self, identity: Identity, metrics: Metrics) -> None:
        await asyncio.to_thread(self._server.wake_up)
        self._metrics = metrics
        self._http = aiohttp.ClientSession(
            self._server.url,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS),
            auto_decompress=False,
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on to the model server, and its answer back as it comes."""
        assert self._http is not None, "attach comes first"
        body = await request.read()
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        answer: web.StreamResponse | None = None
        try:
            with self._metrics.first_byte_seconds.time():
                async with asyncio.timeout(FIRST_BYTE_SECONDS):
                    upstream = await self._http.request(request.method, request.path, data=body, headers=headers)
            # Left on a failure of either side, which tells the server to think no further.
            async with upstream:
                passed = {name: upstream.headers[name] for name in PASSED_HEADERS if name in upstream.headers}
                answer = web.StreamResponse(status=upstream.status, headers=passed)
                await answer.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await answer.write(chunk)
                await answer.write_eof()
                return answer
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as problem:
            logger.warning("an answer failed", extra={"fields": {"reason": type(problem).__name__}})
            if answer is None:
                return web.json_response(
                    {"error": {"code": "model_unavailable", "message": "The model does not answer."}}, status=503
                )
            if request.transport is not None:  # an answer that ends here must not look whole
                request.transport.abort()
            return answer

    async def wait_until_lost(self) -> str:
        while True:
            if (code := self._server.process.poll()) is not None:
                return f"the model server ended with {code}"
            await asyncio.sleep(WATCH_SECONDS)

    async def close(self) -> None:
        if self._http is not None:
            with contextlib.suppress(aiohttp.ClientError):
                await self._http.close()
        await asyncio.to_thread(self._server.stop)
