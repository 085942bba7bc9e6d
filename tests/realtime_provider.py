"""OpenAI's part of the stand-in for managed services (tests.providers): the Realtime API over a WebSocket.

It takes sound for turns and answers with tones and their words, faster than they are spoken, as the service does. What
it answers stands in the session's instructions, a line for each turn of the caller's: `ANSWER …` is said; `CALL name
{…}` asks for a tool, or for more with ` + ` between them, and then says what the last one answered. What a system
message asks to be said word for word is said. Some keys make it go wrong. A client that breaks the protocol gets an
error, as there.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

RATE_HZ = 24_000
SECONDS_A_CHARACTER = 0.06
CHUNK_SECONDS = 0.1
FASTER = 4
"""How much faster than it is spoken sound is made."""
VOICES = {"alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"}


class Trouble:
    """Keys that the service takes, and then does not do what it should."""

    NEVER_READY = "key-of-one-that-is-never-ready"
    SILENT = "key-of-one-that-says-nothing"
    BREAKS_OFF = "key-of-one-that-breaks-off"
    NO_CREDIT = "key-of-one-without-credit"
    BUSY = "key-of-a-busy-one"
    ALL = (NEVER_READY, SILENT, BREAKS_OFF, NO_CREDIT, BUSY)


class Realtime:
    def __init__(self, key: str, note: Callable[..., None]) -> None:
        self._key, self._note = key, note

    async def models(self, request: web.Request) -> web.Response:
        match request.headers.get("Authorization", "").removeprefix("Bearer "):
            case key if key == self._key:
                return web.json_response({"object": "list", "data": []})
            case "a-key-for-speech-only-5678":
                problem = {"message": "You have insufficient permissions for this operation.", "code": None}
                return web.json_response({"error": problem}, status=403)
        return web.json_response({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, status=401)

    async def talk(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key not in (self._key, *Trouble.ALL):
            return web.json_response({"error": {"code": "invalid_api_key"}}, status=401)
        if key == Trouble.BUSY:
            return web.Response(status=503)
        assert request.query["model"].startswith("gpt-realtime")
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        session = Session(socket, key, self._note, request.query["model"])
        if key != Trouble.NEVER_READY:
            await session.send("session.created", session={"type": "realtime", "model": request.query["model"]})
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await session.take(json.loads(message.data))
        finally:
            session.stop()
        return socket


class Session:
    def __init__(self, socket: web.WebSocketResponse, key: str, note: Callable[..., None], model: str) -> None:
        self._socket, self._key, self._note, self._model = socket, key, note, model
        self._ids = itertools.count()
        self._answers: list[str] = []
        self._heard_bytes = 0
        self._items: list[dict[str, Any]] = []
        self._seconds: dict[str, float] = {}
        self._response: asyncio.Task[None] | None = None
        self._turns = 0

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send_json({"type": kind, "event_id": f"event_{next(self._ids)}", **fields})

    def stop(self) -> None:
        if self._response is not None:
            self._response.cancel()

    async def take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                await self._update(event)
            case "input_audio_buffer.append":
                self._heard_bytes += len(base64.b64decode(event["audio"]))
            case "input_audio_buffer.clear":
                self._heard_bytes = 0
                await self.send("input_audio_buffer.cleared")
            case "input_audio_buffer.commit":
                await self._commit(event)
            case "conversation.item.create":
                await self._add(event["item"])
            case "conversation.item.truncate":
                await self._truncate(event)
            case "response.create":
                await self._respond(event)
            case "response.cancel":
                if self._response is None or self._response.done():
                    await self._refuse(event, "response_cancel_not_active")
                else:
                    self._note("openai", cancelled=True)
                    self._response.cancel()
            case unknown:
                await self._refuse(event, f"unknown_{unknown}")

    async def _refuse(self, event: dict[str, Any], code: str) -> None:
        self._note("openai", refused=code)
        error = {"type": "invalid_request_error", "code": code, "message": code, "event_id": event.get("event_id")}
        await self.send("error", error=error)

    async def _update(self, event: dict[str, Any]) -> None:
        session = event["session"]
        audio = session["audio"]
        assert session["type"] == "realtime" and session["output_modalities"] == ["audio"]
        pcm = {"type": "audio/pcm", "rate": RATE_HZ}
        assert audio["input"]["format"] == audio["output"]["format"] == pcm
        assert audio["input"]["turn_detection"] is None
        assert all(set(tool) <= {"type", "name", "description", "parameters"} for tool in session["tools"])
        if audio["output"]["voice"] not in VOICES:
            return await self._refuse(event, "invalid_value")
        self._answers = re.findall(r"^(?:ANSWER|CALL) .*$", session["instructions"], re.MULTILINE)
        self._note(
            "openai",
            model=self._model,
            voice=audio["output"]["voice"],
            instructions=session["instructions"],
            tools=[tool["name"] for tool in session["tools"]],
        )
        await self.send("session.updated", session=session)

    async def _commit(self, event: dict[str, Any]) -> None:
        if self._heard_bytes < 2 * RATE_HZ // 10:
            return await self._refuse(event, "input_audio_buffer_commit_empty")
        self._note("openai", heard_seconds=self._heard_bytes / 2 / RATE_HZ)
        self._heard_bytes = 0
        await self._add({"type": "message", "role": "user", "content": [{"type": "input_audio"}]})

    async def _add(self, item: dict[str, Any]) -> None:
        item = {"id": f"item_{next(self._ids)}", **item, "object": "realtime.item", "status": "completed"}
        self._items.append(item)
        if item["type"] == "function_call_output":
            self._note("openai", tool_answered=item["output"])
        await self.send("conversation.item.added", item=item)
        await self.send("conversation.item.done", item=item)

    async def _truncate(self, event: dict[str, Any]) -> None:
        seconds = self._seconds.get(event["item_id"])
        if seconds is None or event["audio_end_ms"] > seconds * 1000:
            return await self._refuse(event, "invalid_value")
        self._note("openai", truncated_ms=event["audio_end_ms"], made_ms=round(seconds * 1000))
        await self.send(
            "conversation.item.truncated", item_id=event["item_id"], content_index=0, audio_end_ms=event["audio_end_ms"]
        )

    async def _respond(self, event: dict[str, Any]) -> None:
        if self._response is not None and not self._response.done():
            return await self._refuse(event, "conversation_already_has_active_response")
        assert event["response"]["output_modalities"] == ["audio"]
        if self._key == Trouble.SILENT and any(item.get("role") == "user" for item in self._items):
            return
        self._response = asyncio.create_task(self._make_response(f"resp_{next(self._ids)}"))

    async def _make_response(self, response_id: str) -> None:
        response: dict[str, Any] = {"id": response_id, "object": "realtime.response", "output": []}
        await self.send("response.created", response={**response, "status": "in_progress"})
        status, details = "completed", None
        try:
            if self._key == Trouble.NO_CREDIT and any(item.get("role") == "user" for item in self._items):
                status, details = "failed", {"type": "failed", "error": {"code": "insufficient_quota"}}
            else:
                response["output"] += await self._make_items(response_id)
        except asyncio.CancelledError:
            status = "cancelled"
        usage = {"total_tokens": 3, "input_tokens": 1, "output_tokens": 2}
        await self.send(
            "response.done", response={**response, "status": status, "status_details": details, "usage": usage}
        )

    async def _make_items(self, response_id: str) -> list[dict[str, Any]]:
        last = self._items[-1]
        said = last["content"][0].get("text", "") if last.get("role") == "system" else ""
        if last["type"] == "function_call_output":
            return await self._speak(response_id, f"The tool says {' '.join(re.findall('[A-Za-z]+', last['output']))}.")
        if "word for word" in said:
            return await self._speak(response_id, said.partition("nothing else: ")[2])
        if said:
            return await self._speak(response_id, "And so on, as I said.")
        answer = self._answers[self._turns] if self._turns < len(self._answers) else "ANSWER Yes."
        self._turns += 1
        kind, _, words = answer.partition(" ")
        if kind == "ANSWER":
            return await self._speak(response_id, words)
        return [await self._call(response_id, call) for call in words.split(" + ")]

    async def _call(self, response_id: str, words: str) -> dict[str, Any]:
        name, _, arguments = words.partition(" ")
        call = f"call_{next(self._ids)}"
        item = {"type": "function_call", "id": f"item_{next(self._ids)}", "name": name, "call_id": call}
        item |= {"arguments": arguments or "{}", "status": "completed"}
        where = {"response_id": response_id, "item_id": item["id"], "output_index": 0}
        await self.send("conversation.item.added", item={**item, "arguments": ""})
        await self.send("response.function_call_arguments.done", **where, call_id=call, arguments=item["arguments"])
        self._items.append(item)
        return item

    async def _speak(self, response_id: str, text: str) -> list[dict[str, Any]]:
        """Say a sentence: its words come first, its sound as it is made."""
        item = {"type": "message", "id": f"item_{next(self._ids)}", "role": "assistant", "content": []}
        where = {"response_id": response_id, "item_id": item["id"], "output_index": 0, "content_index": 0}
        await self.send("conversation.item.added", item=item)
        self._items.append(item)
        pieces = re.findall(r".{1,12}", text)
        seconds = len(text) * SECONDS_A_CHARACTER
        made = 0
        while made < seconds:
            if self._key == Trouble.BREAKS_OFF and made > 0.8 and self._turns:
                transport = self._socket._req.transport  # type: ignore[union-attr]
                assert transport is not None
                transport.abort()
            if pieces:
                await self.send("response.output_audio_transcript.delta", **where, delta=pieces.pop(0))
            sound = base64.b64encode(tone(CHUNK_SECONDS)).decode()
            await self.send("response.output_audio.delta", **where, delta=sound)
            made = self._seconds[item["id"]] = made + CHUNK_SECONDS
            await asyncio.sleep(CHUNK_SECONDS / FASTER)
        for piece in pieces:
            await self.send("response.output_audio_transcript.delta", **where, delta=piece)
        await self.send("response.output_audio.done", **where)
        item["content"] = [{"type": "output_audio", "transcript": text}]
        await self.send("conversation.item.done", item=item)
        return [item]


def tone(seconds: float) -> bytes:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return bytes((8000 * np.sin(2 * np.pi * 440 * times)).astype("<i2").tobytes())
