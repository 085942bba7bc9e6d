"""Real HTTP servers on loopback: a language model that follows a script, and the platform's tools."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

WORDS_A_CHUNK = 2


@contextlib.asynccontextmanager
async def serving(path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve one POST address; the context is the server's address."""
    app = web.Application()
    app.router.add_post(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclasses.dataclass
class Reply:
    """One answer of the model: words, then tool calls, in small pieces."""

    words: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    """(name, arguments as the model writes them)."""
    status: int = 200
    delay_seconds: float = 0.0
    """Before the first word."""
    stalls_after: int | None = None
    """Chunks after which nothing more comes, and the connection stays open."""
    breaks_after: int | None = None
    """Chunks after which the connection is cut."""
    garbage_after: int | None = None
    """Chunks after which comes what is no JSON."""


@dataclasses.dataclass
class ChatServer:
    """Speaks OpenAI's chat completions. Keeps what it was sent; the last reply is given again after the script."""

    script: list[Reply] = dataclasses.field(default_factory=list)
    requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    keys: list[str] = dataclasses.field(default_factory=list)
    hung_up_on: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Set when a client has gone before its reply was over."""

    def says(self, *replies: Reply) -> None:
        self.script = list(replies)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Return the messages of the last request, without the system's."""
        return self.requests[-1]["messages"][1:]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("Authorization", ""))
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if reply.status != 200:
            return web.json_response({"error": {"message": "Something is wrong here."}}, status=reply.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._stream(request, response, reply)
        except (ConnectionError, asyncio.CancelledError):
            self.hung_up_on.set()
            raise
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, reply: Reply) -> None:
        await asyncio.sleep(reply.delay_seconds)
        for sent, delta in enumerate(_deltas(reply)):
            if sent == reply.breaks_after:
                assert request.transport is not None
                request.transport.abort()
                return
            if sent == reply.stalls_after:
                await asyncio.sleep(60)
            if sent == reply.garbage_after:
                await response.write(b"data: {no json\n\n")
                return
            await response.write(_event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
        await response.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        # A last chunk without choices, as endpoints send it that count tokens.
        await response.write(_event({"choices": [], "usage": {"total_tokens": 7}}))
        await response.write(b"data: [DONE]\n\n")


def _event(document: dict[str, Any]) -> bytes:
    whole = {"id": "chat", "object": "chat.completion.chunk", "created": 1, "model": "scripted", **document}
    return f"data: {json.dumps(whole)}\n\n".encode()


def _deltas(reply: Reply) -> list[dict[str, Any]]:
    words = reply.words.split(" ") if reply.words else []
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for start in range(0, len(words), WORDS_A_CHUNK):
        piece = " ".join(words[start : start + WORDS_A_CHUNK])
        deltas.append({"content": piece if start + WORDS_A_CHUNK >= len(words) else f"{piece} "})
    for index, (name, arguments) in enumerate(reply.calls):
        first = {"index": index, "id": f"id-{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        deltas.append({"tool_calls": [first]})
        middle = len(arguments) // 2
        for piece in (arguments[:middle], arguments[middle:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    return deltas


@dataclasses.dataclass
class ToolEndpoint:
    """The platform's tools. Keeps what it was asked; `answers` with a document, a text, or the answer of a handler."""

    answers: Any = dataclasses.field(default_factory=lambda: {"ok": True, "result": {}})
    status: int = 200
    delay_seconds: float = 0.0
    asked: list[tuple[str, dict[str, Any], str]] = dataclasses.field(default_factory=list)
    """(name, body, Authorization)."""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append((request.match_info["name"], body, request.headers.get("Authorization", "")))
        await asyncio.sleep(self.delay_seconds)
        if isinstance(self.answers, str):
            return web.Response(text=self.answers, status=self.status, content_type="text/html")
        return web.json_response(self.answers, status=self.status)
