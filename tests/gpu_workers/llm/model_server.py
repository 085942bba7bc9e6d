"""A stand-in for vLLM's server, which needs a GPU: `python -m tests.gpu_workers.llm.model_server --port P --name NAME`.

Speaks the part of its API that the worker uses: /health, /sleep, /wake_up, /is_sleeping, the list of models, and chat
completions, streamed or not. It answers with what was said last. What it was told to do stands in that message:
`slow`, `break off`, `die`, `fail`. It answers nothing while it sleeps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from aiohttp import web


class ModelServer:
    def __init__(self, name: str, log: Path | None) -> None:
        self.name = name
        self.is_sleeping = False
        self._log = log

    def log(self, **event: Any) -> None:
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(json.dumps(event) + "\n")

    async def health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def sleep(self, request: web.Request) -> web.Response:
        self.log(event="sleep", level=request.query["level"])
        self.is_sleeping = True
        return web.Response()

    async def wake_up(self, request: web.Request) -> web.Response:
        self.log(event="wake_up")
        self.is_sleeping = False
        return web.Response()

    async def tell_whether_it_sleeps(self, request: web.Request) -> web.Response:
        return web.json_response({"is_sleeping": self.is_sleeping})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        if self.is_sleeping:
            return web.json_response({"error": "asleep"}, status=500)
        document = await request.json()
        if document["model"] != self.name:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        said = str(document["messages"][-1]["content"])
        self.log(event="complete", said=said, headers=dict(request.headers))
        if "fail" in said:
            return web.json_response({"error": {"message": "too much"}}, status=429)
        words = ["You", " said:", f" {said}", "."]
        if not document.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({**self._head("chat.completion"), "choices": [choice]})
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        try:
            for number, word in enumerate(words):
                if "die" in said and number == 2:
                    os._exit(7)
                if "break off" in said and number == 2:
                    assert request.transport is not None
                    request.transport.abort()
                    return answer
                if "slow" in said:
                    await asyncio.sleep(0.5)
                choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
                await self._send(answer, {**self._head("chat.completion.chunk"), "choices": [choice]})
            await answer.write(b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.log(event="cancelled", said=said)
            raise
        return answer

    async def _send(self, answer: web.StreamResponse, document: dict[str, Any]) -> None:
        await answer.write(b"data: " + json.dumps(document).encode() + b"\n\n")

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": self.name}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--cannot-sleep", action="store_true")
    arguments = parser.parse_args()
    server = ModelServer(arguments.name, arguments.log)
    server.log(event="started", pid=os.getpid(), model=arguments.model, secrets=sorted(_secrets()))
    application = web.Application()
    application.add_routes(
        [web.get("/v1/models", server.models), web.post("/v1/chat/completions", server.complete)]
        + ([] if arguments.never_ready else [web.get("/health", server.health)])
    )
    if os.environ.get("VLLM_SERVER_DEV_MODE") == "1" and not arguments.cannot_sleep:
        application.add_routes(
            [
                web.post("/sleep", server.sleep),
                web.post("/wake_up", server.wake_up),
                web.get("/is_sleeping", server.tell_whether_it_sleeps),
            ]
        )
    web.run_app(application, host="127.0.0.1", port=arguments.port, print=None, handler_cancellation=True)


def _secrets() -> set[str]:
    return {name for name in os.environ if name.startswith("WARMLINE_")}


if __name__ == "__main__":
    main()
