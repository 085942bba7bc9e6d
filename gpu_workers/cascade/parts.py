"""What transcribes and what speaks in a conversation: the models of this process, or workers of other pools."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from concurrent.futures import Executor

import aiohttp
import onnxruntime
from hibari import Hibari
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService

from gpu_workers import protocol
from gpu_workers.cascade.kyutai import KyutaiSTTService, KyutaiTTSService, PartLost, connected
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.cascade.speaking import HibariService
from gpu_workers.cascade.transcribing import MoonshineService
from gpu_workers.line import Line
from gpu_workers.protocol import Start


@dataclasses.dataclass(frozen=True, slots=True)
class Models:
    """What all sessions of a process share. None keeps anything of a session."""

    speech: onnxruntime.InferenceSession
    moonshine: Moonshine
    hibari: Hibari


@contextlib.asynccontextmanager
async def chosen_parts(
    start: Start, line: Line, models: Models, http: aiohttp.ClientSession, *, hearing: Executor, speaking: Executor
) -> AsyncIterator[tuple[STTService, TTSService]]:
    """Hold the services of one conversation. Where a worker cannot be reached, this process's own model serves."""
    own_voice = HibariService(models.hibari, speaking)
    stt: STTService = MoonshineService(models.moonshine, hearing)
    tts: TTSService = own_voice
    async with contextlib.AsyncExitStack() as held:
        if (part := start.parts.get("stt")) is not None:
            try:
                socket, boot = await held.enter_async_context(connected(http, part))
                stt = KyutaiSTTService(socket)
                await line.send_metadata(protocol.part(part="stt", boot=boot))
            except PartLost as problem:
                await line.send_metadata(protocol.warning(code="stt", sentence=f"Its own ears are used: {problem}"))
        if (part := start.parts.get("tts")) is not None:
            voice = str(start.agent.get("voice") or "")
            tts = KyutaiTTSService(http, part, voice=voice, instead=own_voice, tell=line.send_metadata)
        yield stt, tts
