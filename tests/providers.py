"""A stand-in for the managed services that agents may speak with: `python -m tests.providers --log FILE`.

Speaks what Pipecat's clients ask of ElevenLabs and Cartesia: a sentence in, its sound out, with the words' times where
the provider gives them; of Deepgram: sound in, words out (see `Ear`); and of OpenAI: sound in, sound out (see
tests.realtime_provider). It knows one key, and of Deepgram some more,
for what goes wrong. What a voice is to do stands in its id: `stall`, `break-off`, any other speaks. It prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from tests.realtime_provider import Realtime

KEY = "the-key-of-the-tenant-1234"
LIMITED_KEY = "a-key-for-speech-only-5678"
RATE_HZ = 24_000
SECONDS_A_CHARACTER = 0.06


class Providers:
    def __init__(self, log: Path | None) -> None:
        self._log = log

    def note(self, provider: str, **event: Any) -> None:
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(json.dumps({"provider": provider, **event}) + "\n")

    # --- ElevenLabs ------------------------------------------------------------------------------------------------
    async def user(self, request: web.Request) -> web.Response:
        match request.headers.get("xi-api-key"):
            case key if key == KEY:
                return web.json_response({"user_id": "somebody"})
            case key if key == LIMITED_KEY:
                return web.json_response({"detail": {"status": "missing_permissions"}}, status=401)
        return web.json_response({"detail": {"status": "invalid_api_key"}}, status=401)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("xi-api-key") != KEY:
            return web.json_response({"detail": {"status": "invalid_api_key"}}, status=401)
        assert request.query["output_format"] == "pcm_24000"
        voice, text = request.match_info["voice"], (await request.json())["text"]
        self.note("elevenlabs", voice=voice, text=text)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        begin = 0.0
        for number, word in enumerate(text.split(" ")):
            if voice == "stall":
                await asyncio.sleep(60)
            if voice == "break-off" and number == 1:
                assert request.transport is not None
                request.transport.abort()
                return answer
            characters = [*word, " "]
            starts = [begin + SECONDS_A_CHARACTER * place for place in range(len(characters))]
            alignment = {
                "characters": characters,
                "character_start_times_seconds": starts,
                "character_end_times_seconds": [start + SECONDS_A_CHARACTER for start in starts],
            }
            begin += SECONDS_A_CHARACTER * len(characters)
            line = {"audio_base64": base64.b64encode(tone(len(characters))).decode(), "alignment": alignment}
            await answer.write(json.dumps(line).encode() + b"\n")
        return answer

    # --- Deepgram ---------------------------------------------------------------------------------------------------
    async def token(self, request: web.Request) -> web.Response:
        known = request.headers.get("Authorization") == f"Token {KEY}"
        return web.json_response({"api_key_id": "1"}) if known else web.json_response({"err_code": "AUTH"}, status=401)

    async def listen(self, request: web.Request) -> web.StreamResponse:
        match request.headers.get("Authorization", "").removeprefix("Token "):
            case key if key == KEY:
                answers_after_seconds = 0.05
            case Ear.SILENT:
                answers_after_seconds = 60.0
            case Ear.LATE:
                answers_after_seconds = 4.0
            case Ear.BREAKS_OFF:
                answers_after_seconds = -1.0
            case Ear.BUSY:
                return web.Response(status=503)
            case _:
                return web.json_response({"err_code": "AUTH"}, status=401)
        assert (request.query["encoding"], request.query["sample_rate"]) == ("linear16", "16000")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        ear = Ear(socket, answers_after_seconds)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                ear.heard_seconds += len(message.data) / 32_000
                if answers_after_seconds < 0 and ear.heard_seconds > 0.5:
                    assert request.transport is not None
                    request.transport.abort()
            elif json.loads(message.data)["type"] == "Finalize":
                self.note("deepgram", heard_seconds=ear.heard_seconds)
                ear.finalize()
        return socket

    # --- Cartesia --------------------------------------------------------------------------------------------------
    async def voices(self, request: web.Request) -> web.Response:
        assert request.headers["Cartesia-Version"]
        known = request.headers.get("X-API-Key") == KEY
        return web.json_response({"data": []}) if known else web.json_response({"title": "Unauthorized"}, status=401)

    async def speak(self, request: web.Request) -> web.Response:
        if request.headers.get("X-API-Key") != KEY:
            return web.json_response({"title": "Unauthorized"}, status=401)
        document = await request.json()
        assert document["output_format"] == {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE_HZ}
        voice, text = document["voice"]["id"], document["transcript"]
        self.note("cartesia", voice=voice, text=text)
        if voice == "stall":
            await asyncio.sleep(60)
        return web.Response(body=tone(len(text)), content_type="audio/pcm")


class Ear:
    """Understands of every turn the same, in two pieces, with its number."""

    SILENT = "key-of-a-silent-ear"
    LATE = "key-of-a-late-ear"
    BREAKS_OFF = "key-of-one-that-breaks-off"
    BUSY = "key-of-a-busy-ear"

    def __init__(self, socket: web.WebSocketResponse, answers_after_seconds: float) -> None:
        self._socket, self._answers_after_seconds = socket, answers_after_seconds
        self.heard_seconds = self._told_seconds = 0.0
        self._turns = 0
        self._answering: set[asyncio.Task[None]] = set()

    def finalize(self) -> None:
        self._turns += 1
        begin, self._told_seconds = self._told_seconds, self.heard_seconds
        answering = asyncio.create_task(self._answer(self._turns, begin, self.heard_seconds - begin))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer(self, turn: int, begin: float, seconds: float) -> None:
        await asyncio.sleep(self._answers_after_seconds)
        for place, (words, from_finalize) in enumerate([("When do you", False), (f"open, {turn}?", True)]):
            result = {
                "type": "Results",
                "channel_index": [0, 1],
                "start": begin + place * seconds / 2,
                "duration": seconds / 2,
                "is_final": True,
                "speech_final": from_finalize,
                "from_finalize": from_finalize,
                "channel": {"alternatives": [{"transcript": words, "confidence": 0.9, "words": []}]},
                "metadata": {"request_id": "1", "model_info": {}, "model_uuid": "2"},
            }
            await self._socket.send_json(result)


def tone(characters: int) -> bytes:
    times = np.arange(round(characters * SECONDS_A_CHARACTER * RATE_HZ)) / RATE_HZ
    return bytes((8000 * np.sin(2 * np.pi * 440 * times)).astype("<i2").tobytes())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path)
    providers = Providers(parser.parse_args().log)
    realtime = Realtime(KEY, providers.note)
    application = web.Application()
    application.add_routes(
        [
            web.get("/v1/user", providers.user),
            web.post("/v1/text-to-speech/{voice}/stream/with-timestamps", providers.stream),
            web.get("/v1/auth/token", providers.token),
            web.get("/v1/listen", providers.listen),
            web.get("/voices", providers.voices),
            web.post("/tts/bytes", providers.speak),
            web.get("/v1/models", realtime.models),
            web.get("/v1/realtime", realtime.talk),
        ]
    )
    asyncio.run(serve(application))


async def serve(application: web.Application) -> None:
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
