"""One client's socket and one place in the batch, joined: words in as they come, sound out as it is made."""

from __future__ import annotations

import asyncio
import secrets

import torch
from moshi.models.tts import Entry

from gpu_workers import moshi_messages
from gpu_workers.batching import Stepper, Stream
from gpu_workers.line import LineClosed
from gpu_workers.moshi_messages import BadMessage
from gpu_workers.moshi_server import receive, refused
from gpu_workers.pcm import Samples
from gpu_workers.protocol import CloseCode
from gpu_workers.tts import messages
from gpu_workers.tts.batch import Opening, Step, TtsBatch, Words
from gpu_workers.tts.messages import Eos, Request, Text, Voice
from gpu_workers.tts.voices import BadVoice
from gpu_workers.visit import Visit, first_to_end, send

SILENT_CLIENT_TIMEOUT_SECONDS = 120.0
"""A client that sends no text for so long, and has not said that there is no more, is gone."""
WAITING_WORDS = 5_000


class Inbox:
    """Words that came in and were not given to the model yet."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._are_last = False
        self._has_come = asyncio.Event()

    def add(self, entries: tuple[Entry, ...]) -> None:
        """Add words.

        Raises:
            LineClosed: more wait than anybody can mean, or all were said to have come.
        """
        if self._are_last:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, "No text is taken after Eos.")
        self._entries += entries
        if len(self._entries) > WAITING_WORDS:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, f"More than {WAITING_WORDS:,} words wait to be said.")
        self._has_come.set()

    def end(self) -> None:
        self._are_last = True
        self._has_come.set()

    def take(self) -> Words:
        words = Words(tuple(self._entries), self._are_last)
        self._entries.clear()
        self._has_come.clear()
        return words

    async def wait(self) -> None:
        await self._has_come.wait()


class Synthesis:
    """A session: greeted, told whose voice to take, then speaking what comes in.

    Raises:
        BadMessage: the client asks for sound in a form that is not known.
    """

    def __init__(self, visit: Visit, batch: TtsBatch, stepper: Stepper) -> None:
        self._visit = visit
        self._batch = batch
        self._stepper = stepper
        self._form = messages.form(visit.query)
        self._voice = batch.voices.named(visit.query.get("voice", ""))
        self._inbox = Inbox()
        self._has_text = False
        self._is_all_said = False

    async def hold(self) -> str:
        """Say what the client sends, and return why the session ended.

        Raises:
            LineClosed: what the client sent was not of the protocol's form, or nothing came for too long.
            ConnectionError: the client has gone, or takes nothing any more.
            NoPlace, BatchFailed
        """
        if self._form.is_packed:
            await send(self._visit.socket, moshi_messages.ready(self._visit.boot))
        while not self._has_text:
            match await self._receive():
                case None:
                    return "caller_hung_up"
                case Eos():
                    return "nothing_to_say"
                case request:
                    self._take(request)
        stream = await self._stepper.join(Opening(seed=secrets.randbits(62), voice=self._voice))
        try:
            listening = asyncio.create_task(self._listen(), name="listen")
            speaking = asyncio.create_task(self._speak(stream), name="speak")
            await first_to_end(listening, speaking)
        finally:
            stream.leave()
        return "all_said" if self._is_all_said else "caller_hung_up"

    async def _listen(self) -> None:
        while (request := await self._receive()) is not None:
            self._take(request)

    async def _receive(self) -> Request | None:
        # Who has sent all, or waits for long sentences to be said, need not send anything.
        message = await receive(self._visit, timeout_seconds=SILENT_CLIENT_TIMEOUT_SECONDS)
        try:
            return messages.read(*message) if message else None
        except BadMessage as problem:
            raise refused(problem) from problem

    def _take(self, request: Request) -> None:
        match request:
            case Text(text):
                entries = self._batch.entries([text], is_first=not self._has_text)
                self._has_text |= bool(entries)
                self._inbox.add(entries)
            case Voice(embedding):
                self._become(embedding)
            case Eos():
                self._inbox.end()

    def _become(self, embedding: torch.Tensor) -> None:
        if self._has_text:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, "A voice is taken before the first text only.")
        try:
            self._voice = self._batch.voices.source(embedding)
        except BadVoice as problem:
            raise LineClosed(CloseCode.PROTOCOL_ERROR, str(problem)) from problem

    async def _speak(self, stream: Stream) -> None:
        outputs = stream.outputs()
        while True:
            await stream.put(self._inbox.take())
            step: Step = await anext(outputs)
            if step.is_waiting:
                await self._inbox.wait()
                continue
            if step.samples is not None:
                await self._send_sound(step.samples)
            if self._form.is_packed:
                for spoken in step.words:
                    await send(self._visit.socket, messages.word(spoken))
            if step.is_last:
                self._is_all_said = True
                return

    async def _send_sound(self, samples: Samples) -> None:
        if self._form.is_slow:
            loop = asyncio.get_running_loop()
            message = await loop.run_in_executor(self._visit.codec_threads, self._form.sound, samples)
        else:
            message = self._form.sound(samples)
        if message:
            await send(self._visit.socket, message)
