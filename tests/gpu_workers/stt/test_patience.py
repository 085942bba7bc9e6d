"""How long a client is waited for: one that sends nothing, one that reads nothing; and what a failing model says."""

from __future__ import annotations

import asyncio
import socket as sockets
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from gpu_workers import visit
from gpu_workers.protocol import CloseCode
from gpu_workers.stt import transcription
from gpu_workers.stt.engine import SttEngine
from tests.gpu_workers.callers import serving
from tests.gpu_workers.stt.clients import unmute


@pytest.fixture
def engine(stt_folder: Path, monkeypatch: pytest.MonkeyPatch) -> SttEngine:
    monkeypatch.setenv("FRAME_BUDGET", "1000")
    engine = SttEngine(checkpoint=str(stt_folder), max_sessions=2)
    engine.load()
    return engine


async def test_a_client_that_sends_nothing_is_told_so_and_closed(
    engine: SttEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcription, "SILENT_CLIENT_TIMEOUT_SECONDS", 0.3)
    async with serving(engine) as (worker, port), unmute(port) as client:
        await client.send_audio(np.zeros(1920))
        assert await client.wait_until_closed() == CloseCode.TIMED_OUT
        await client.wait_for(lambda: client.of("Error"))
        assert client.of("Error") == [{"type": "Error", "message": CloseCode.TIMED_OUT.reason}]
        assert b'warmline_worker_sessions_ended_total{why="timed_out"} 1.0' in worker.metrics.to_text()


async def test_draining_closes_a_session_and_says_that_another_place_will_do(engine: SttEngine) -> None:
    async with serving(engine) as (worker, port), unmute(port) as client:
        await worker.drain(grace_seconds=0.1)
        assert await client.wait_until_closed() == CloseCode.GOING_AWAY


async def test_a_model_that_fails_ends_its_sessions_with_a_sentence_and_serves_the_next(engine: SttEngine) -> None:
    async with serving(engine) as (_, port):
        async with unmute(port) as client, unmute(port) as other:
            stream = engine._stepper._streams[0]
            await stream.put(np.zeros(7, np.float32))  # no frame of any sound: the step of all places fails
            for each in (client, other):
                assert await each.wait_until_closed() == CloseCode.INTERNAL_ERROR
                await each.wait_for(lambda each=each: each.of("Error"))
        async with unmute(port) as client:
            await client.send_audio(np.zeros(1920))
            await client.wait_for(lambda: client.of("Step"))


async def test_who_reads_nothing_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "SEND_TIMEOUT_SECONDS", 0.3)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def tell_for_ever(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        try:
            while True:
                await visit.send(socket, bytes(100_000))
        except ConnectionError as problem:
            ended.set_result(str(problem))
        return socket

    application = web.Application()
    application.add_routes([web.get("/", tell_for_ever)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with sockets.create_connection(runner.addresses[0][:2]) as deaf:
        deaf.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        async with asyncio.timeout(10):
            assert "takes nothing any more" in await ended
    await runner.cleanup()
