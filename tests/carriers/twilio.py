"""A stand-in for Twilio: `python -m tests.carriers.twilio --folder F`. It prints its port.

Two things in one process, as Twilio is: the REST API that Twilio's own SDK talks to, and the telephone network, which
rings at webhooks, reads TwiML, opens media streams and follows them message by message, in real time: `connected`,
`start`, `media` every 20 ms, `dtmf`, `mark` when what was sent before it has been played, `stop`. What a caller does is
a list of steps, posted to `/tests/calls`; what happened is read from there.

Source: Twilio's documentation of Media Streams, TwiML, webhook signatures, and its REST API of 2010-04-01.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import dataclasses
import json
import random
import time
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import numpy as np
from aiohttp import web
from twilio.request_validator import RequestValidator

from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMU, RATE_HZ

ACCOUNT = "AC" + "a" * 32
TOKEN = "t" * 32
NUMBERS = {"PN" + "1" * 32: "+14155550100", "PN" + "2" * 32: "+14155550101"}
PRICE = "-0.00850"
QUIET_SECONDS = 1.0
"""A caller takes the agent for finished after so long."""
SILENCE = PCMU.silence


@dataclasses.dataclass
class Call:
    """One call, as Twilio has it, and what it has seen."""

    sid: str
    from_number: str
    to_number: str
    steps: list[dict[str, Any]]
    direction: str = "inbound"
    status: str = "ringing"
    answered_by: str = "human"
    price: str | None = None
    spoken: list[str] = dataclasses.field(default_factory=list)
    dialled: list[str] = dataclasses.field(default_factory=list)
    requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    events: list[str] = dataclasses.field(default_factory=list)
    heard: list[bytes] = dataclasses.field(default_factory=list)
    cleared_frames: int = 0
    duration: int = 0
    problem: str = ""
    status_callback: str = ""
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def document(self) -> dict[str, Any]:
        return {
            "sid": self.sid,
            "status": self.status,
            "ended": self.ended.is_set(),
            "spoken": self.spoken,
            "dialled": self.dialled,
            "requests": self.requests,
            "events": self.events,
            "heard_seconds": len(self.heard) * FRAME_SECONDS,
            "loud_seconds": sum(np.abs(PCMU.decode(frame)).max() > 0.05 for frame in self.heard) * FRAME_SECONDS,
            "cleared_frames": self.cleared_frames,
            "problem": self.problem,
        }


class Playout:
    """What Twilio holds of the agent's voice: played a frame every 20 ms, marks told when their turn comes."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queue: collections.deque[bytes | str] = collections.deque()
        self._bytes = b""
        self.quiet_frames = 0

    def put(self, payload: bytes) -> None:
        self._bytes += payload
        while len(self._bytes) >= FRAME_SAMPLES:
            self._queue.append(self._bytes[:FRAME_SAMPLES])
            self._bytes = self._bytes[FRAME_SAMPLES:]

    def mark(self, name: str) -> None:
        self._queue.append(name)

    def clear(self) -> list[str]:
        """Forget all, and return the marks in it."""
        marks = [each for each in self._queue if isinstance(each, str)]
        self._call.cleared_frames += len(self._queue) - len(marks)
        self._queue.clear()
        return marks

    def tick(self) -> list[str]:
        """Play 20 ms, and return the marks that were reached."""
        marks: list[str] = []
        while self._queue and isinstance(self._queue[0], str):
            marks.append(str(self._queue.popleft()))
        frame = self._queue.popleft() if self._queue else SILENCE
        assert isinstance(frame, bytes)
        self._call.heard.append(frame)
        self.quiet_frames = 0 if np.abs(PCMU.decode(frame)).max() > 0.02 else self.quiet_frames + 1
        while self._queue and isinstance(self._queue[0], str):
            marks.append(str(self._queue.popleft()))
        return marks


class Hung(Exception):
    """The caller has hung up."""


class Stream:
    """One media stream, from `connected` to `stop`."""

    def __init__(self, call: Call, socket: aiohttp.ClientWebSocketResponse, parameters: dict[str, str]) -> None:
        self.call = call
        self.socket = socket
        self.sid = "MZ" + uuid.uuid4().hex
        self.parameters = parameters
        self.playout = Playout(call)
        self.sequence = 0
        self.chunk = 0
        self.to_say: collections.deque[bytes] = collections.deque()
        self.is_closed = False
        self.rng = random.Random(7)
        self.trouble: dict[str, Any] = {}
        self.held_back: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Hold it until the other side closes it. Raises Hung where the caller ended it."""
        await self.socket.send_json({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        await self.send(
            "start",
            start={
                "streamSid": self.sid,
                "accountSid": ACCOUNT,
                "callSid": self.call.sid,
                "tracks": ["inbound"],
                "customParameters": self.parameters,
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        )
        reading = asyncio.create_task(self._read())
        acting = asyncio.create_task(self._act())
        ticking = asyncio.create_task(self._tick())
        try:
            done, _ = await asyncio.wait({reading, acting, ticking}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if acting in done and reading not in done:
                await asyncio.wait({reading}, timeout=60)
        finally:
            for task in (reading, acting, ticking):
                task.cancel()
            await asyncio.gather(reading, acting, ticking, return_exceptions=True)

    async def send(self, event: str, **fields: Any) -> None:
        self.sequence += 1
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            await self.socket.send_json(
                {"event": event, "sequenceNumber": str(self.sequence), "streamSid": self.sid, **fields}
            )

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            document = json.loads(message.data)
            assert document["streamSid"] == self.sid, document
            match document["event"]:
                case "media":
                    payload = base64.b64decode(document["media"]["payload"], validate=True)
                    self.playout.put(payload)
                case "mark":
                    self.playout.mark(document["mark"]["name"])
                case "clear":
                    self.call.events.append("clear")
                    for name in self.playout.clear():
                        await self.send("mark", mark={"name": name})
                case other:
                    self.call.problem = f"an unknown message {other}"
        self.is_closed = True

    async def _tick(self) -> None:
        began, due = time.monotonic(), time.monotonic()
        while True:
            payload = self.to_say.popleft() if self.to_say else SILENCE
            self.chunk += 1
            media = {
                "track": "inbound",
                "chunk": str(self.chunk),
                "timestamp": str(round((time.monotonic() - began) * 1000)),
                "payload": base64.b64encode(payload).decode(),
            }
            await self._send_media(media)
            for name in self.playout.tick():
                await self.send("mark", mark={"name": name})
            due += FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _send_media(self, media: dict[str, Any]) -> None:
        """Send it, or do to it what a bad network does."""
        if self.trouble.get("loses") and self.chunk % self.trouble["loses"] == 0:
            return
        if self.trouble.get("swaps") and self.chunk % self.trouble["swaps"] == 0:
            self.held_back.append(media)
            return
        await self.send("media", media=media)
        if self.trouble.get("repeats") and self.chunk % self.trouble["repeats"] == 0:
            await self.send("media", media=media)
        while self.held_back:
            await self.send("media", media=self.held_back.pop())
        if self.trouble.get("babbles") and self.chunk % self.trouble["babbles"] == 0:
            for nonsense in ("no json", "[]", '{"event":"media"}', '{"event":"media","media":{"chunk":"x"}}', "{}"):
                await self.socket.send_str(nonsense)

    async def _act(self) -> None:
        """Do what the caller's steps say."""
        for step in self.call.steps:
            match step:
                case {"say": path}:
                    self.to_say.extend(read_frames(Path(path)))
                    while self.to_say:
                        await asyncio.sleep(FRAME_SECONDS)
                    self.playout.quiet_frames = 0
                case {"tone": seconds}:
                    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
                    tone = PCMU.encode((0.3 * np.sin(2 * np.pi * 330 * at)).astype(np.float32))
                    self.to_say.extend(tone[i : i + FRAME_SAMPLES] for i in range(0, len(tone), FRAME_SAMPLES))
                    while self.to_say:
                        await asyncio.sleep(FRAME_SECONDS)
                case {"hear": seconds}:
                    await self._hear(seconds, step.get("within", 30))
                case {"keys": digits}:
                    for digit in digits:
                        await self.send("dtmf", dtmf={"track": "inbound_track", "digit": digit})
                        await asyncio.sleep(0.15)
                case {"trouble": trouble}:
                    self.trouble = trouble
                case {"wait": seconds}:
                    await asyncio.sleep(seconds)
                case {"stay": _}:
                    await asyncio.sleep(120)
                case {"freeze": _}:
                    # The network says nothing any more, and the call is over elsewhere.
                    raise Frozen
                case {"hang_up": _}:
                    await self.send("stop", stop={"accountSid": ACCOUNT, "callSid": self.call.sid})
                    await self.socket.close()
                    raise Hung

    async def _hear(self, seconds: float, within: float) -> None:
        """Wait until so much was said, and the agent is quiet again."""
        deadline = time.monotonic() + within
        begin = len(self.call.heard)
        while True:
            loud = sum(np.abs(PCMU.decode(frame)).max() > 0.02 for frame in self.call.heard[begin:])
            if loud * FRAME_SECONDS >= seconds and self.playout.quiet_frames * FRAME_SECONDS > QUIET_SECONDS:
                return
            if time.monotonic() > deadline:
                self.call.problem = f"the agent said {loud * FRAME_SECONDS:.1f} s, not {seconds}"
                raise Hung
            await asyncio.sleep(0.05)


class Frozen(Exception):
    """The stream is silent without having been closed."""


def read_frames(path: Path) -> list[bytes]:
    """Return the frames of a file of mu-law bytes."""
    sound = path.read_bytes()
    return [sound[at : at + FRAME_SAMPLES].ljust(FRAME_SAMPLES, b"\xff") for at in range(0, len(sound), FRAME_SAMPLES)]


class Twilio:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: dict[str, Call] = {}
        self.numbers = {
            ref: {"sid": ref, "phone_number": number, "friendly_name": number, "voice_url": "", "status_callback": ""}
            for ref, number in NUMBERS.items()
        }
        self.running: set[asyncio.Task[None]] = set()
        self.session: aiohttp.ClientSession | None = None
        self.answers_with = {"steps": [{"stay": True}], "answered_by": "human", "status": "in-progress"}

    # --- the REST API ----------------------------------------------------------------------------------------------
    @web.middleware
    async def authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/tests/"):
            return await handler(request)
        given = request.headers.get("Authorization", "")
        if given != aiohttp.BasicAuth(ACCOUNT, TOKEN).encode() or ACCOUNT not in request.path:
            return web.json_response({"code": 20003, "message": "Authenticate", "status": 401}, status=401)
        return await handler(request)

    async def account(self, request: web.Request) -> web.Response:
        return web.json_response({"sid": ACCOUNT, "friendly_name": "Of the tests", "status": "active"})

    async def list_numbers(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"incoming_phone_numbers": list(self.numbers.values()), "next_page_uri": None, "page": 0, "page_size": 50}
        )

    async def update_number(self, request: web.Request) -> web.Response:
        number = self.numbers.get(request.match_info["ref"])
        if number is None:
            return web.json_response({"code": 20404, "message": "not found", "status": 404}, status=404)
        given = await request.post()
        for theirs, name in (("VoiceUrl", "voice_url"), ("StatusCallback", "status_callback")):
            if theirs in given:
                number[name] = str(given[theirs])
        return web.json_response(number)

    async def create_call(self, request: web.Request) -> web.Response:
        given = await request.post()
        if str(given["To"]).endswith("0000"):
            return web.json_response({"code": 21211, "message": "Invalid 'To'", "status": 400}, status=400)
        call = Call(
            sid="CA" + uuid.uuid4().hex,
            from_number=str(given["From"]),
            to_number=str(given["To"]),
            steps=self.answers_with["steps"],  # type: ignore[arg-type]
            direction="outbound-api",
            status="queued",
            answered_by=str(self.answers_with["answered_by"]),
            status_callback=str(given["StatusCallback"]),
        )
        self.calls[call.sid] = call
        self._run(self._call_out(call, str(given["Url"])))
        return web.json_response(self._resource(call), status=201)

    async def read_call(self, request: web.Request) -> web.Response:
        call = self.calls.get(request.match_info["sid"])
        if call is None:
            return web.json_response({"code": 20404, "message": "not found", "status": 404}, status=404)
        return web.json_response(self._resource(call))

    def _resource(self, call: Call) -> dict[str, Any]:
        return {
            "sid": call.sid,
            "from": call.from_number,
            "to": call.to_number,
            "status": call.status,
            "direction": call.direction,
            "price": call.price,
            "price_unit": "USD",
            "duration": str(call.duration),
        }

    # --- the telephone network -------------------------------------------------------------------------------------
    async def ring(self, request: web.Request) -> web.Response:
        given = await request.json()
        number = next(each for each in self.numbers.values() if each["phone_number"] == given["to"])
        call = Call(
            sid="CA" + uuid.uuid4().hex,
            from_number=given["from"],
            to_number=given["to"],
            steps=given.get("steps", []),
            status_callback=number["status_callback"],
        )
        self.calls[call.sid] = call
        self._run(self._call_in(call, number["voice_url"]))
        return web.json_response({"sid": call.sid})

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
        call.status, call.duration, call.price = status, max(1, round(time.monotonic() - began)), PRICE
        with contextlib.suppress(Exception):
            await self._tell(call, status, CallDuration=str(call.duration))
        call.ended.set()

    async def _tell(self, call: Call, status: str, **more: str) -> None:
        if call.status_callback:
            await self._ask(call, call.status_callback, CallStatus=status, **more)

    async def _ask(self, call: Call, url: str, **more: str) -> str:
        """Ask a webhook, signed as Twilio signs; return the answer's body."""
        form = {
            "AccountSid": ACCOUNT,
            "ApiVersion": "2010-04-01",
            "CallSid": call.sid,
            "CallStatus": call.status,
            "Direction": call.direction,
            "From": call.from_number,
            "To": call.to_number,
            **more,
        }
        signature = RequestValidator(TOKEN).compute_signature(url, form)
        assert self.session is not None
        async with self.session.post(url, data=form, headers={"X-Twilio-Signature": signature}) as answer:
            body = await answer.text()
            call.requests.append({"url": url, "status": answer.status, "said": more, "body": body[:3000]})
            return body if answer.status == 200 else "<Response><Hangup/></Response>"

    async def _follow(self, call: Call, twiml: str, base: str) -> None:
        """Do what a TwiML document says, verb by verb."""
        for verb in ET.fromstring(twiml):
            match verb.tag:
                case "Connect":
                    stream = verb.find("Stream")
                    assert stream is not None
                    try:
                        await self._stream(call, stream)
                    except Hung:
                        return
                case "Redirect":
                    url = urljoin(base, (verb.text or "").strip())
                    return await self._follow(call, await self._ask(call, url), url)
                case "Say":
                    call.spoken.append(verb.text or "")
                case "Dial":
                    target = next(iter(verb), verb)
                    call.dialled.append((target.text or "").strip())
                    answered = not call.dialled[-1].endswith("9999")
                    url = urljoin(base, verb.attrib["action"])
                    done = {
                        "DialCallStatus": "completed" if answered else "no-answer",
                        "DialCallSid": "CA" + uuid.uuid4().hex,
                    }
                    if answered:
                        done["DialCallDuration"] = "42"
                    return await self._follow(call, await self._ask(call, url, **done), url)
                case "Hangup" | "Reject":
                    return

    async def _stream(self, call: Call, stream: ET.Element) -> None:
        parameters = {each.attrib["name"]: each.attrib["value"] for each in stream.findall("Parameter")}
        assert self.session is not None
        socket = await self.session.ws_connect(stream.attrib["url"], compress=0)
        call.events.append("stream")
        try:
            await Stream(call, socket, parameters).run()
        except Frozen:
            call.events.append("frozen")
            await self._tell(call, "completed", CallDuration="3")
            await asyncio.sleep(60)
        finally:
            call.events.append(f"stream closed {socket.close_code}")
            await socket.close()


async def run(folder: Path) -> None:
    twilio = Twilio(folder)
    app = web.Application(middlewares=[twilio.authenticate])
    root = f"/2010-04-01/Accounts/{ACCOUNT}"
    app.add_routes(
        [
            web.get(f"{root}.json", twilio.account),
            web.get(f"{root}/IncomingPhoneNumbers.json", twilio.list_numbers),
            web.post(root + "/IncomingPhoneNumbers/{ref}.json", twilio.update_number),
            web.post(f"{root}/Calls.json", twilio.create_call),
            web.get(root + "/Calls/{sid}.json", twilio.read_call),
            web.post("/tests/calls", twilio.ring),
            web.post("/tests/answers", twilio.answer_with),
            web.get("/tests/calls/last", twilio.last),
            web.get("/tests/calls/{sid}", twilio.read),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    async with aiohttp.ClientSession() as twilio.session:
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    asyncio.run(run(parser.parse_args().folder))
