"""A page with the talk panel, and a scripted agent behind it that speaks the Moshi protocol; both on one loopback port.

The agent's behaviour is the ticket's name: `answer`, `busy`, `failing`, … The page carries the site's own content
security policy.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy
import sphn
from aiohttp import WSMsgType, web
from django.conf import settings
from django.template.loader import render_to_string

from gpu_workers import protocol

STATIC = Path(__file__).resolve().parents[2] / "platform" / "web" / "static"
FRAME = protocol.SAMPLE_RATE_HZ // 50  # 20 ms


def tone(seconds: float, hertz: float = 330.0) -> numpy.ndarray:
    """Return a voice-like tone: a fundamental, two harmonics, and a slow swell."""
    at = numpy.arange(int(seconds * protocol.SAMPLE_RATE_HZ)) / protocol.SAMPLE_RATE_HZ
    wave = sum(numpy.sin(2 * numpy.pi * hertz * n * at) / n for n in (1, 2, 3))
    return (0.2 * wave * (0.7 + 0.3 * numpy.sin(2 * numpy.pi * 4 * at))).astype(numpy.float32)


@dataclasses.dataclass
class Site:
    """The running page. `heard` is what the agent decoded of each call's caller, in order."""

    address: str = ""
    heard: list[numpy.ndarray] = dataclasses.field(default_factory=list)
    tickets: list[str] = dataclasses.field(default_factory=list)
    returns: list[str] = dataclasses.field(default_factory=list)
    """The tokens with which callers tried to come back."""
    queries: list[str] = dataclasses.field(default_factory=list)
    """Of the calls' addresses."""
    refusal: tuple[int, str] | None = None
    """When set, tickets are refused with this status and sentence."""
    away_seconds: float = 0.0
    """How long a caller who comes back has to wait."""


SITE = web.AppKey("site", Site)


@contextmanager
def running_site() -> Iterator[Site]:
    site, started = Site(), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(_application(site), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="talk site")
    thread.start()
    assert started.wait(10), "the page's server did not start"
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def _application(site: Site) -> web.Application:
    application = web.Application()
    application[SITE] = site
    application.router.add_get("/", _page)
    application.router.add_post("/ticket/", _ticket)
    application.router.add_get("/call/{behaviour}/api/chat", _call)
    application.router.add_get("/call/resume/{token}/api/chat", _return)
    application.router.add_static("/static", STATIC)
    return application


def _policy() -> str:
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())


async def _page(request: web.Request) -> web.Response:
    behaviour = request.query.get("agent", "answer")
    panel = render_to_string(
        "web/_components/talk.html",
        {
            "ticket_url": "/ticket/",
            "agent": behaviour,
            "csrf_token": "token",
            "limited": True,
            "regions": [("us-east", "United States, East"), ("eu-west", "Europe, West")],
        },
    )
    head = (
        '<link rel="stylesheet" href="/static/web/warmline.css"><link rel="icon" href="/static/web/favicon.svg">'
        '<script type="module" src="/static/web/talk/panel.js"></script>'
    )
    return web.Response(
        text=f"<!doctype html><title>Talk</title>{head}<body>{panel}</body>",
        content_type="text/html",
        headers={"Content-Security-Policy": _policy()},
    )


async def _ticket(request: web.Request) -> web.Response:
    site: Site = request.app[SITE]
    if site.refusal:
        status, sentence = site.refusal
        return web.json_response({"error": sentence}, status=status)
    behaviour = (await request.post())["agent"]
    site.tickets.append(str(behaviour))
    address = f"ws{site.address.removeprefix('http')}/call/{behaviour}/api/chat"
    return web.json_response({"url": address, "max_seconds": 60})


async def _call(request: web.Request) -> web.StreamResponse:
    behaviour = request.match_info["behaviour"]
    request.app[SITE].queries.append(request.query_string)
    if behaviour == "refused":
        return web.Response(status=403)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    if behaviour.isdigit():
        await socket.close(code=int(behaviour))
    elif behaviour == "silent":
        await socket.receive(timeout=30)
    elif behaviour == "failing":
        await socket.send_bytes(protocol.error("The engine met a fault of its own."))
        await socket.close(code=protocol.CloseCode.INTERNAL_ERROR)
    elif behaviour == "gone":
        await socket.send_bytes(protocol.handshake())
        await socket.send_bytes(
            protocol.metadata({"type": "call", "call_id": "c1", "resume_token": "too-late", "resume_seconds": 8})
        )
        await socket.close(code=protocol.CloseCode.GOING_AWAY)
    elif behaviour == "lost":
        await socket.send_bytes(protocol.handshake())
        assert request.transport is not None
        request.transport.abort()
    elif behaviour in ("cut", "mended"):
        await _lose(request, socket, token="first", is_mended=behaviour == "mended")
    elif behaviour == "agent_lost":
        await socket.send_bytes(protocol.handshake())
        await socket.send_bytes(protocol.metadata({"type": "reconnecting"}))
        await socket.receive()
        await asyncio.sleep(1.5)
        await socket.send_bytes(protocol.metadata({"type": "reconnected", "gap_ms": 1500}))
        async for _ in socket:
            pass
    elif behaviour == "strange":
        await socket.send_bytes(protocol.handshake())
        for message in (b"\x09what is this", b"\x04{not json", b"\x04[]", b"\x01not Ogg at all", b""):
            await socket.send_bytes(message)
        await socket.send_str("text")
        await socket.send_bytes(protocol.metadata(protocol.transcript(turn=0, role="agent", words="Still here.")))
        async for _ in socket:
            pass
    else:
        await _answer(request.app[SITE], socket, recorded=behaviour == "recorded")
    return socket


async def _lose(request: web.Request, socket: web.WebSocketResponse, *, token: str, is_mended: bool = False) -> None:
    """Hear a little of the caller, then have the network go; before that an agent may be lost, and another found."""
    await socket.send_bytes(protocol.handshake())
    await socket.send_bytes(
        protocol.metadata({"type": "call", "call_id": "c1", "resume_token": token, "resume_seconds": 8})
    )
    if is_mended:
        await socket.send_bytes(protocol.error("The engine met a fault of its own."))
        await socket.send_bytes(protocol.metadata({"type": "reconnecting"}))
        await socket.send_bytes(protocol.metadata({"type": "reconnected", "gap_ms": 100}))
    for _ in range(20):
        await socket.receive(timeout=10)
    assert request.transport is not None
    request.transport.abort()


async def _return(request: web.Request) -> web.StreamResponse:
    """Refuse the first attempt as a restarting server does, lose the line again, then hold the call."""
    site: Site = request.app[SITE]
    token = request.match_info["token"]
    site.returns.append(token)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    if token == "first" and site.returns.count("first") == 1:
        await socket.close(code=protocol.CloseCode.TRY_AGAIN_LATER)
    elif token == "first":
        if site.away_seconds:
            with suppress(TimeoutError):
                await socket.receive(timeout=site.away_seconds)
        await _lose(request, socket, token="second")
    elif token == "second":
        await _answer(site, socket, recorded=False)
    else:
        await socket.close(code=protocol.CloseCode.CANNOT_RESUME)
    return socket


async def _answer(site: Site, socket: web.WebSocketResponse, *, recorded: bool) -> None:
    """Greet; once the caller has spoken for half a second, answer with a tone and the call's figures; listen on."""
    await socket.send_bytes(protocol.handshake())
    await socket.send_bytes(
        protocol.metadata(
            {
                "type": "call",
                "call_id": "c1",
                "resume_token": "again",
                "max_seconds": 60,
                "recorded": recorded,
                "boot": "restored",
            }
        )
    )
    writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)
    await _say(socket, writer, tone(0.6))
    await socket.send_bytes(
        protocol.metadata(protocol.transcript(turn=0, role="agent", words="Good morning, how can I help?"))
    )
    reader, heard, answered = sphn.OpusStreamReader(protocol.SAMPLE_RATE_HZ), [], False
    try:
        async for message in socket:
            if message.type is not WSMsgType.BINARY or message.data[:1] != b"\x01":
                continue
            heard.append(reader.append_bytes(message.data[1:]))
            loud = sum(part.size for part in heard if part.size and numpy.sqrt(numpy.mean(part**2)) > 0.02)
            if loud > protocol.SAMPLE_RATE_HZ / 2 and not answered:
                answered = True
                await socket.send_bytes(
                    protocol.metadata(protocol.transcript(turn=1, role="caller", words="I'd like a haircut."))
                )
                await socket.send_bytes(
                    protocol.metadata(protocol.tool(turn=1, name="check_availability", ok=True, duration_ms=18))
                )
                for piece in ("What day ", "suits you? "):
                    await socket.send_bytes(protocol.text(piece))
                await _say(socket, writer, tone(1.0, hertz=250))
                await socket.send_bytes(
                    protocol.metadata(
                        protocol.transcript(turn=1, role="agent", words="What day suits you?", interrupted=True)
                    )
                )
                await socket.send_bytes(
                    protocol.metadata(
                        {
                            "type": "stats",
                            "first_audio_ms": 412,
                            "turn_ms": 1040,
                            "turns": 1,
                            "cost_nano_dollars": 4_210_000,
                            "elapsed_ms": 3000,
                            "boot": "restored",
                        }
                    )
                )
    finally:
        site.heard.append(numpy.concatenate(heard) if heard else numpy.zeros(0, numpy.float32))


async def _say(socket: web.WebSocketResponse, writer: sphn.OpusStreamWriter, samples: numpy.ndarray) -> None:
    """Send audio as fast as it is spoken, like a worker."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for start in range(0, samples.size - FRAME + 1, FRAME):
        await socket.send_bytes(protocol.audio(writer.append_pcm(samples[start : start + FRAME])))
        await asyncio.sleep(max(0.0, began + start / protocol.SAMPLE_RATE_HZ - loop.time()))
