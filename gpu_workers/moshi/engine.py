"""Moshi as an engine: each session is a stream in one batch. It listens and speaks all the time, and takes no turns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

import numpy as np

from gpu_workers import protocol, speech_detector
from gpu_workers.batch_engine import BatchEngine
from gpu_workers.batching import NoPlace, Stream
from gpu_workers.chat import ChatEngine
from gpu_workers.line import Heard, Line, LineClosed
from gpu_workers.moshi.batch import MoshiBatch, Opening
from gpu_workers.moshi.checkpoint import Checkpoint
from gpu_workers.moshi.generation import Forced
from gpu_workers.moshi.prompting import Prompter
from gpu_workers.moshi.turns import Turns
from gpu_workers.protocol import CloseCode, Start
from gpu_workers.sizing import largest_batch

logger = logging.getLogger(__name__)

FRAME_SAMPLES = 1_920
"""80 ms of 24 kHz."""


class MoshiEngine(BatchEngine, ChatEngine):
    kind = "moshi"
    _batch: MoshiBatch

    def _make_batch(self, checkpoint: Checkpoint, *, at_most: int) -> MoshiBatch:
        self._prompter = Prompter.of(checkpoint)
        self._detector = speech_detector.load_model()
        return largest_batch(lambda places: MoshiBatch(checkpoint, places=places), at_most=at_most)

    async def converse(self, start: Start, line: Line) -> None:
        if start.history:
            await line.send_metadata(
                protocol.warning(code="history_ignored", sentence="Moshi cannot go on from before: it begins anew.")
            )
        try:
            stream = await self._stepper.join(self._opening(start))
        except NoPlace:
            raise LineClosed(CloseCode.WORKER_AT_CAPACITY) from None
        conversation = Conversation(line, stream, Turns(line, self._detector))
        try:
            await conversation.hold()
        finally:
            stream.leave()

    def _opening(self, start: Start) -> Opening:
        prompt: tuple[Forced, ...] = ()
        if self._prompter is not None:
            agent = start.agent
            prompt = self._prompter.prompt(text=str(agent.get("prompt") or ""), voice=str(agent.get("voice") or ""))
        return Opening(seed=secrets.randbits(62), prompt=prompt)


class Conversation:
    """One caller's line and one place in the batch, joined."""

    def __init__(self, line: Line, stream: Stream, turns: Turns) -> None:
        self._line = line
        self._stream = stream
        self._turns = turns

    async def hold(self) -> None:
        """Talk until the caller hangs up.

        Raises:
            LineClosed: the caller's messages were not of the protocol's form.
            BatchFailed: the model failed.
        """
        listening = asyncio.create_task(self._listen(), name="listen")
        speaking = asyncio.create_task(self._speak(), name="speak")
        try:
            done, _ = await asyncio.wait((listening, speaking), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (listening, speaking):
                task.cancel()
            await asyncio.gather(listening, speaking, return_exceptions=True)
        with contextlib.suppress(ConnectionError):  # a caller who hung up hears nothing more
            await self._turns.finish()

    async def _listen(self) -> None:
        """Cut what the caller says into the model's frames."""
        left = np.zeros(0, np.float32)
        async for event in self._line:
            if not isinstance(event, Heard):
                continue
            self._turns.heard(event)
            left = np.concatenate((left, event.samples))
            whole = len(left) // FRAME_SAMPLES * FRAME_SAMPLES
            for at in range(0, whole, FRAME_SAMPLES):
                await self._stream.put(left[at : at + FRAME_SAMPLES])
            left = left[whole:]

    async def _speak(self) -> None:
        async for spoken in self._stream.outputs():
            await self._turns.speak(spoken)
