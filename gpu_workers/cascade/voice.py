"""Last in the pipeline: the agent's sound onto the line, and note of what was really spoken."""

from __future__ import annotations

import asyncio
from functools import partial

from pipecat.frames.frames import Frame, LLMFullResponseEndFrame, OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from gpu_workers import pcm, protocol
from gpu_workers.cascade.brain import Voiced
from gpu_workers.cascade.conversation import Conversation, Reply
from gpu_workers.cascade.frames import HangUpFrame, ReplyStartedFrame, SpokenWordsFrame, VoicedFrame
from gpu_workers.playout import FRAME_SAMPLES

PIECE_SAMPLES = 2 * FRAME_SAMPLES
"""After so much of a passage it is noted that it was heard."""


class Voice(FrameProcessor):
    def __init__(self, conversation: Conversation, hung_up: asyncio.Event) -> None:
        super().__init__()
        self._conversation = conversation
        self._hung_up = hung_up
        self._reply: Reply | None = None
        self._has_spoken = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        line = self._conversation.line
        match frame:
            case ReplyStartedFrame(reply=reply):
                self._reply, self._has_spoken = reply, False
            case HangUpFrame():
                line.when_sent(self._hang_up)
            case OutputAudioRawFrame() | VoicedFrame() | SpokenWordsFrame() | LLMFullResponseEndFrame():
                # What still comes of a reply that was interrupted is not spoken.
                if self._reply is not None and not self._reply.over:
                    self._voice(self._reply, frame)
            case _:
                await self.push_frame(frame, direction)

    def _voice(
        self, reply: Reply, frame: OutputAudioRawFrame | VoicedFrame | SpokenWordsFrame | LLMFullResponseEndFrame
    ) -> None:
        line = self._conversation.line
        match frame:
            case OutputAudioRawFrame():
                self._speak(reply, pcm.to_samples(frame.audio))
            case VoicedFrame(voiced=voiced):
                self._speak_passage(reply, voiced)
            case SpokenWordsFrame(words=words):
                line.when_sent(partial(self._words_sent, reply, words))
            case LLMFullResponseEndFrame():
                line.when_sent(partial(self._reply_sent, reply))

    def _speak(self, reply: Reply, samples: pcm.Samples) -> None:
        line = self._conversation.line
        if not self._has_spoken:
            self._has_spoken = True
            line.speak(samples[:FRAME_SAMPLES])
            line.when_sent(partial(self._first_audio_sent, reply))
            samples = samples[FRAME_SAMPLES:]
        line.speak(samples)

    def _speak_passage(self, reply: Reply, voiced: Voiced) -> None:
        for begin in range(0, len(voiced.samples), PIECE_SAMPLES):
            piece = voiced.samples[begin : begin + PIECE_SAMPLES]
            self._speak(reply, piece)
            until_seconds = voiced.begins_seconds + (begin + len(piece)) / protocol.SAMPLE_RATE_HZ
            self._conversation.line.when_sent(partial(self._passage_sent, reply, voiced, until_seconds))

    async def _first_audio_sent(self, reply: Reply, message: int) -> None:
        await self._conversation.first_audio_sent(reply, message)

    async def _words_sent(self, reply: Reply, words: str, message: int) -> None:
        await self._conversation.words_sent(reply, words)

    async def _passage_sent(self, reply: Reply, voiced: Voiced, until_seconds: float, message: int) -> None:
        if words := voiced.passage.hear(until_seconds):
            await self._conversation.words_sent(reply, words)

    async def _reply_sent(self, reply: Reply, message: int) -> None:
        for passage in reply.passages:  # whose last words may have come after their sound
            if words := passage.hear(passage.given_seconds):
                await self._conversation.words_sent(reply, words)
        await self._conversation.end_reply(reply)

    async def _hang_up(self, message: int) -> None:
        self._hung_up.set()
