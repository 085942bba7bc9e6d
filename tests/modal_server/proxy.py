"""A Server's address: sessions are started and ended here, and all else goes to the session's container."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import aiohttp
from aiohttp import WSMsgType, web

from tests.modal_server.containers import Fleet, Full, Session
from tests.modal_server.state import Injection, Server

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"})


def make_proxy(
    server: Server, fleet: Fleet, http: aiohttp.ClientSession, injections: Mapping[str, Injection]
) -> web.Application:
    async def start(request: web.Request) -> web.Response:
        if (injection := injections.get("sessions/start")) is not None and injection.times:
            injection.times -= 1
            return web.Response(status=int(injection.status))
        if request.headers.get("Modal-Authorization") != f"Bearer {fleet.server_token}":
            return web.Response(status=401)
        idle_seconds = float(request.headers["x-modal-server-session-idle-timeout"])
        try:
            session = await fleet.start_session(server, idle_seconds)
        except Full:
            return web.Response(status=429)
        return web.json_response({"session_id": session.id, "token": session.token})

    async def terminate(request: web.Request) -> web.Response:
        if request.headers.get("Modal-Authorization") != f"Bearer {fleet.server_token}":
            return web.Response(status=401)
        session = fleet.session(request.headers["x-modal-server-session-token"])
        if session is None:
            return web.Response(status=404)
        fleet.end_session(session)
        return web.Response()

    async def forward(request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Modal-Authorization", "").removeprefix("Bearer ")
        session = fleet.session(token)
        if session is None or session.container.server.id != server.id:
            return web.Response(status=401, text="modal-http: no such session")
        session.connections += 1
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await _forward_socket(request, session, http)
            return await _forward_request(request, session, http)
        finally:
            session.connections -= 1
            session.idle_since = time.monotonic()

    application = web.Application(client_max_size=64 << 20)
    application.add_routes(
        [
            web.post("/_modal/sessions/start", start),
            web.post("/_modal/sessions/terminate", terminate),
            web.route("*", "/{path:.*}", forward),
        ]
    )
    return application


def _address(request: web.Request, session: Session) -> str:
    return f"http://{session.container.host}:{session.container.port}{request.rel_url}"


def _headers(request: web.Request) -> dict[str, str]:
    """Return what goes on to the container: not how Modal knows the session."""
    return {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in HOP_BY_HOP and not name.lower().startswith(("sec-websocket", "modal-"))
    }


async def _forward_request(request: web.Request, session: Session, http: aiohttp.ClientSession) -> web.StreamResponse:
    async with http.request(
        request.method, _address(request, session), headers=_headers(request), data=await request.read()
    ) as answer:
        passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=passed)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        return response


async def _forward_socket(request: web.Request, session: Session, http: aiohttp.ClientSession) -> web.StreamResponse:
    try:
        worker = await http.ws_connect(_address(request, session), headers=_headers(request), max_msg_size=0)
    except aiohttp.WSServerHandshakeError as problem:
        return web.Response(status=problem.status)
    except aiohttp.ClientError:
        return web.Response(status=502)
    caller = web.WebSocketResponse(max_msg_size=0)
    await caller.prepare(request)

    async def copy(
        source: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
        sink: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    ) -> None:
        async for message in source:
            if message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
        await sink.close(code=source.close_code if source.close_code and source.close_code != 1006 else 1001)

    copying = [asyncio.create_task(copy(worker, caller)), asyncio.create_task(copy(caller, worker))]
    try:
        await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in copying:
            task.cancel()
        await asyncio.gather(*copying, return_exceptions=True)
        await worker.close()
    return caller
