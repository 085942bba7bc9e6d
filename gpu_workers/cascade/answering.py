"""The brain in the pipeline: a turn of the caller in, sentences out."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

from pipecat.frames.frames import AggregatedTextFrame, Frame, LLMFullResponseEndFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from gpu_workers.cascade.brain import HangUp, Say, ToolCalled, Voiced, VoicedBrain, Warned
from gpu_workers.cascade.conversation import CallerTurn, Conversation
from gpu_workers.cascade.frames import (
    CallerTurnFrame,
    GreetFrame,
    HangUpFrame,
    NothingSaidFrame,
    ReplyStartedFrame,
    VoicedFrame,
    WrapUpFrame,
)

logger = logging.getLogger(__name__)

SORRY = "I am sorry, something went wrong on my side. Could you say that again?"

Parts = AsyncIterator[Say | Voiced | ToolCalled | Warned | HangUp]


class Answering(FrameProcessor):
    """Runs the brain inside `process_frame`, so that an interruption of the pipeline cancels it there."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self._conversation = conversation

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        brain = self._conversation.brain
        match frame:
            case GreetFrame():
                await self._answer(None, brain.greet())
            case CallerTurnFrame(turn=turn):
                await self._answer(turn, brain.reply(turn.words))
            case NothingSaidFrame():
                await self._resume()
            case WrapUpFrame():
                await self._answer(None, brain.wrap_up())
            case _:
                await self.push_frame(frame, direction)

    async def _resume(self) -> None:
        """Go on with a reply that was broken off for nothing."""
        if (broken_off := self._conversation.interrupted) is None:
            return
        brain = self._conversation.brain
        if broken_off.passages and isinstance(brain, VoicedBrain):
            await self._answer(None, brain.go_on())
        elif unsaid := broken_off.unsaid():
            await self._answer(None, _say(unsaid))
        elif broken_off.turn is not None and not broken_off.sentences:
            await self._answer(broken_off.turn, brain.reply(broken_off.turn.words))

    async def _answer(self, turn: CallerTurn | None, parts: Parts) -> None:
        reply = await self._conversation.begin_reply(turn)
        await self.push_frame(ReplyStartedFrame(reply))
        hang_up = False
        try:
            async for part in parts:
                match part:
                    case Say(text=sentence):
                        reply.first_sentence_at = reply.first_sentence_at or time.monotonic()
                        reply.sentences.append(sentence)
                        await self.push_frame(AggregatedTextFrame(sentence, "sentence"))
                    case Voiced(passage=passage):
                        if passage not in reply.passages:
                            reply.passages.append(passage)
                        await self.push_frame(VoicedFrame(part))
                    case ToolCalled():
                        await self._conversation.report_tool(
                            reply, name=part.name, ok=part.ok, duration_ms=part.duration_ms
                        )
                    case Warned():
                        await self._conversation.warn(code=part.code, sentence=part.sentence)
                    case HangUp():
                        hang_up = True
        except Exception:
            # The call goes on: a caller must not be left in silence by one failed answer.
            logger.exception("the brain failed")
            await self._conversation.warn(code="brain_failed", sentence="The agent could not answer a turn.")
            await self.push_frame(AggregatedTextFrame(SORRY, "sentence"))
        await self.push_frame(LLMFullResponseEndFrame())
        if hang_up:
            await self.push_frame(HangUpFrame())


async def _say(sentences: list[str]) -> Parts:
    for sentence in sentences:
        yield Say(sentence)
