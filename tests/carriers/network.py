"""A stand-in for a carrier, in a process of its own: its REST API, and the telephone network.

The network rings at webhooks, signs what it asks, reads documents verb by verb, and opens streams. What a caller does
is a list of steps, posted to `/tests/calls`; what happened is read from there.
"""

from __future__ import annotations

import abc
import argparse
import asyncio
import contextlib
import time
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urljoin

import aiohttp
from aiohttp import web

from tests.carriers.calls import Call, Frozen, Hung
from tests.carriers.stream import StreamPeer

NUMBERS = ("+14155550100", "+14155550101")
UNREACHABLE = "9999"
"""Numbers that end so are not answered."""
IMPOSSIBLE = "0000"
"""Numbers that end so cannot be called."""


class StandIn(abc.ABC):
    peer: ClassVar[type[StreamPeer]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: dict[str, Call] = {}
        self.running: set[asyncio.Task[None]] = set()
        self.session: aiohttp.ClientSession | None = None
        self.answers_with: dict[str, Any] = {
            "steps": [{"stay": True}],
            "answered_by": "human",
            "status": "in-progress",
        }

    # --- what is the carrier's own ---------------------------------------------------------------------------------
    @abc.abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Of its REST API."""

    @abc.abstractmethod
    def is_allowed(self, request: web.Request) -> bool:
        """Whether a request has the account's credentials."""

    @abc.abstractmethod
    def webhooks_of(self, number: str) -> tuple[str, str]:
        """Return where one asks about a ring of a number, and where one tells how calls go; empty: nowhere."""

    @abc.abstractmethod
    def form(self, call: Call, **more: str) -> dict[str, str]:
        """Return what a webhook is posted. `more`: in Twilio's words."""

    @abc.abstractmethod
    def sign(self, url: str, form: dict[str, str]) -> dict[str, str]:
        """Return the headers of a signed request."""

    @abc.abstractmethod
    def check_stream(self, stream: ET.Element) -> None:
        """Fail where a stream is asked for in a way in which the carrier would not bring its sound."""

    def new_call_id(self) -> str:
        return str(uuid.uuid4())

    def told_of(self, status: str) -> bool:
        """Whether the carrier tells of this status."""
        return True

    # --- the telephone network -------------------------------------------------------------------------------------
    async def ring(self, request: web.Request) -> web.Response:
        given = await request.json()
        voice_url, status_url = self.webhooks_of(given["to"])
        call = Call(
            sid=self.new_call_id(),
            from_number=given["from"],
            to_number=given["to"],
            steps=given.get("steps", []),
            status_callback=status_url,
        )
        self.calls[call.sid] = call
        self._run(self._call_in(call, voice_url))
        return web.json_response({"sid": call.sid})

    def place(self, *, to: str, from_: str, url: str, status_url: str) -> Call:
        """Have somebody called, as the REST API was asked to."""
        call = Call(
            sid=self.new_call_id(),
            from_number=from_,
            to_number=to,
            steps=self.answers_with["steps"],
            direction="outbound-api",
            status="queued",
            answered_by=str(self.answers_with["answered_by"]),
            status_callback=status_url,
        )
        self.calls[call.sid] = call
        self._run(self._call_out(call, url))
        return call

    async def read(self, request: web.Request) -> web.Response:
        call = self.calls[request.match_info["sid"]]
        if request.query.get("wait"):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(call.ended.wait(), float(request.query["wait"]))
        (self.folder / f"{call.sid}.ulaw").write_bytes(b"".join(call.heard))
        return web.json_response(call.document())

    async def last(self, request: web.Request) -> web.Response:
        return web.json_response({"sid": next(reversed(self.calls), None)})

    async def answer_with(self, request: web.Request) -> web.Response:
        self.answers_with.update(await request.json())
        return web.json_response({})

    async def read_number(self, request: web.Request) -> web.Response:
        return web.json_response({"voice_url": self.webhooks_of(request.query["number"])[0]})

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _call_in(self, call: Call, voice_url: str) -> None:
        began = time.monotonic()
        try:
            answer = await self._ask(call, voice_url, CallStatus="ringing")
            call.status = "in-progress"
            await self._follow(call, answer, voice_url)
        except Exception as problem:
            call.problem = call.problem or repr(problem)
        await self._end(call, "completed", began)

    async def _call_out(self, call: Call, url: str) -> None:
        await self._tell(call, "initiated")
        await self._tell(call, "ringing")
        status = str(self.answers_with["status"])
        if status != "in-progress":
            await self._end(call, status, time.monotonic())
            return
        call.status = "in-progress"
        began = time.monotonic()
        try:
            await self._tell(call, "in-progress")
            await self._follow(call, await self._ask(call, url, AnsweredBy=call.answered_by), url)
        except Exception as problem:
            call.problem = call.problem or repr(problem)
        await self._end(call, "completed", began)

    async def _end(self, call: Call, status: str, began: float) -> None:
        call.status, call.duration, call.is_settled = status, max(1, round(time.monotonic() - began)), True
        with contextlib.suppress(Exception):
            await self._tell(call, status, CallDuration=str(call.duration))
        call.ended.set()

    async def _tell(self, call: Call, status: str, **more: str) -> None:
        if call.status_callback and self.told_of(status):
            await self._ask(call, call.status_callback, CallStatus=status, **more)

    async def _ask(self, call: Call, url: str, **more: str) -> str:
        """Ask a webhook; return the answer's body."""
        form = self.form(call, **more)
        assert self.session is not None
        async with self.session.post(url, data=form, headers=self.sign(url, form)) as answer:
            body = await answer.text()
            call.requests.append({"url": url, "status": answer.status, "said": more, "body": body[:3000]})
            return body if answer.status == 200 else "<Response><Hangup/></Response>"

    async def _follow(self, call: Call, document: str, base: str) -> None:
        """Do what a document says, verb by verb."""
        for verb in ET.fromstring(document):
            match verb.tag:
                case "Connect" | "Stream":
                    try:
                        await self._stream(call, verb if verb.tag == "Stream" else verb[0])
                    except Hung:
                        return
                case "Redirect":
                    url = urljoin(base, (verb.text or "").strip())
                    return await self._follow(call, await self._ask(call, url), url)
                case "Say" | "Speak":
                    call.spoken.append(verb.text or "")
                case "Dial":
                    target = next(iter(verb), verb)
                    call.dialled.append((target.text or "").strip())
                    answered = not call.dialled[-1].endswith(UNREACHABLE)
                    url = urljoin(base, verb.attrib["action"])
                    done = {
                        "DialCallStatus": "completed" if answered else "no-answer",
                        "DialCallSid": self.new_call_id(),
                    }
                    if answered:
                        done["DialCallDuration"] = "42"
                    return await self._follow(call, await self._ask(call, url, **done), url)
                case "Hangup" | "Reject":
                    return
                case other:
                    raise ValueError(f"an unknown verb: {other}")

    async def _stream(self, call: Call, stream: ET.Element) -> None:
        self.check_stream(stream)
        parameters = {each.attrib["name"]: each.attrib["value"] for each in stream.findall("Parameter")}
        assert self.session is not None
        socket = await self.session.ws_connect(stream.get("url") or (stream.text or "").strip(), compress=0)
        call.events.append("stream")
        try:
            await self.peer(call, socket, parameters).run()
        except Frozen:
            call.events.append("frozen")
            await self._tell(call, "completed", CallDuration="3")
            await asyncio.sleep(60)
        finally:
            call.events.append(f"stream closed {socket.close_code}")
            await socket.close()

    # --- the process -----------------------------------------------------------------------------------------------
    @web.middleware
    async def authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/tests/") or self.is_allowed(request):
            return await handler(request)
        return web.json_response({"code": 20003, "message": "Authenticate", "status": 401}, status=401)

    async def serve(self, port: int) -> None:
        app = web.Application(middlewares=[self.authenticate])
        app.add_routes(
            [
                *self.routes(),
                web.post("/tests/calls", self.ring),
                web.post("/tests/answers", self.answer_with),
                web.get("/tests/calls/last", self.last),
                web.get("/tests/calls/{sid}", self.read),
                web.get("/tests/numbers", self.read_number),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(runner.addresses[0][1], flush=True)
        async with aiohttp.ClientSession() as self.session:
            await asyncio.Event().wait()


def run(carrier: type[StandIn]) -> None:
    """Be the carrier's process: its port is printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(carrier(options.folder).serve(options.port))
