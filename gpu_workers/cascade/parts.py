"""What transcribes, thinks and speaks in a conversation: the models of this process, or workers of other pools."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Any
from urllib.parse import urljoin

import aiohttp
import onnxruntime
from hibari import Hibari
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService

from gpu_workers import protocol
from gpu_workers.cascade.brain.model_settings import ModelSettings
from gpu_workers.cascade.kyutai import (
    CONNECT_SECONDS,
    KyutaiSTTService,
    KyutaiTTSService,
    PartLost,
    connected,
)
from gpu_workers.cascade.managed import managed_ears, managed_voice
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.cascade.speaking import HibariService
from gpu_workers.cascade.transcribing import MoonshineService
from gpu_workers.line import Line
from gpu_workers.llm.server import SERVED_MODEL
from gpu_workers.protocol import Part, Start
from gpu_workers.serving import BOOT_HEADER, SESSION_PATH


@dataclasses.dataclass(frozen=True, slots=True)
class Models:
    """What all sessions of a process share. None keeps anything of a session."""

    speech: onnxruntime.InferenceSession
    moonshine: Moonshine
    hibari: Hibari


@contextlib.asynccontextmanager
async def chosen_model(start: Start, line: Line, http: aiohttp.ClientSession) -> AsyncIterator[ModelSettings | None]:
    """Hold the language model of another pool for one conversation; None where there is none, or it cannot be had."""
    if (part := start.parts.get("llm")) is None:
        yield None
        return
    base_url = part.url.removesuffix("/chat/completions")
    try:
        boot = await _ask_model(http, f"{base_url}/models", part)
    except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
        sentence = f"The agent follows its questions: its language model cannot be reached ({type(problem).__name__})."
        await line.send_metadata(protocol.warning(code="llm", sentence=sentence))
        yield None
        return
    await line.send_metadata(protocol.part(part="llm", boot=boot))
    try:
        yield ModelSettings(base_url, SERVED_MODEL, headers=part.headers)
    finally:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # its place is free by itself, later
            address = urljoin(part.url, SESSION_PATH)
            async with http.delete(address, headers=part.headers, timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS)):
                pass


async def _ask_model(http: aiohttp.ClientSession, address: str, part: Part) -> dict[str, Any]:
    """Take the place on a worker, and return how its container came to be."""
    limit = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
    async with http.get(address, headers=part.headers, timeout=limit, raise_for_status=True) as answer:
        boot: dict[str, Any] = json.loads(answer.headers.get(BOOT_HEADER, "{}"))
        return boot


@contextlib.asynccontextmanager
async def chosen_parts(
    start: Start, line: Line, models: Models, http: aiohttp.ClientSession, *, hearing: Executor, speaking: Executor
) -> AsyncIterator[tuple[STTService, TTSService]]:
    """Hold the services of one conversation. Where a worker cannot be reached, this process's own model serves."""
    own_voice = HibariService(models.hibari, speaking)
    own_ears = MoonshineService(models.moonshine, hearing)
    stt: STTService = own_ears
    tts: TTSService = own_voice
    async with contextlib.AsyncExitStack() as held:
        if (part := start.parts.get("stt")) is not None:
            try:
                socket, boot = await held.enter_async_context(connected(http, part))
                stt = KyutaiSTTService(socket)
                await line.send_metadata(protocol.part(part="stt", boot=boot))
            except PartLost as problem:
                await line.send_metadata(protocol.warning(code="stt", sentence=f"Its own ears are used: {problem}"))
        elif (service := start.services.get("stt")) is not None:
            stt = await managed_ears(service, instead=own_ears, tell=line.send_metadata)
        if (part := start.parts.get("tts")) is not None:
            voice = str(start.agent.get("voice") or "")
            tts = KyutaiTTSService(http, part, voice=voice, instead=own_voice, tell=line.send_metadata)
        elif (service := start.services.get("tts")) is not None:
            voice = str(start.agent.get("voice") or "")
            tts = await managed_voice(http, service, voice=voice, instead=own_voice, tell=line.send_metadata)
        yield stt, tts
