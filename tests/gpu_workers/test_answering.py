"""The brain inside the pipeline: what it says, calls and fails at, and what interruptions do to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from pipecat.frames.frames import AggregatedTextFrame, Frame, InterruptionFrame, LLMFullResponseEndFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from gpu_workers.cascade.answering import SORRY, Answering
from gpu_workers.cascade.brain import HangUp, Say, ToolCalled, Warned
from gpu_workers.cascade.conversation import CallerTurn, Conversation, Reply
from gpu_workers.cascade.frames import CallerTurnFrame, HangUpFrame, NothingSaidFrame, ReplyStartedFrame


class NotedLine:
    """In place of a line to a caller: notes what would be sent."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []
        self.stopped = 0

    async def send_metadata(self, document: dict[str, Any]) -> None:
        self.metadata.append(document)

    async def send_text(self, words: str) -> None:
        pass

    def stop_speaking(self) -> None:
        self.stopped += 1

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [document for document in self.metadata if document["type"] == kind]


class ScriptedBrain:
    """Answers each turn with the parts it was given for its words; an exception among them is raised."""

    def __init__(self, script: dict[str, list[Any]]) -> None:
        self._script = script
        self.heard: list[str] = []
        self.spoken: list[tuple[str, bool]] = []

    async def reply(self, heard: str) -> AsyncIterator[Any]:
        self.heard.append(heard)
        for part in self._script[heard]:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, asyncio.Event):
                await part.wait()
            else:
                yield part

    def was_spoken(self, text: str, *, interrupted: bool) -> None:
        self.spoken.append((text, interrupted))


class Sink(FrameProcessor):
    def __init__(self) -> None:
        super().__init__()
        self.sentences: list[str] = []
        self.replies: list[Reply] = []
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.hung_up = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case ReplyStartedFrame(reply=reply):
                self.replies.append(reply)
                self.began.set()
            case AggregatedTextFrame(text=sentence):
                self.sentences.append(sentence)
            case LLMFullResponseEndFrame():
                self.ended.set()
            case HangUpFrame():
                self.hung_up = True
        await self.push_frame(frame, direction)

    async def next_end(self) -> None:
        await asyncio.wait_for(self.ended.wait(), timeout=5)
        self.ended.clear()


def said(words: str) -> CallerTurnFrame:
    return CallerTurnFrame(CallerTurn(words, message=3, speech_ended_at=1.0, decided_at=1.4, transcribed_at=1.4))


@contextlib.asynccontextmanager
async def answering(brain: ScriptedBrain) -> AsyncIterator[tuple[PipelineWorker, Sink, Conversation, NotedLine]]:
    line, sink = NotedLine(), Sink()
    conversation = Conversation(line, brain)
    worker = PipelineWorker(
        Pipeline([Answering(conversation), sink]), enable_rtvi=False, enable_turn_tracking=False, idle_timeout_secs=None
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield worker, sink, conversation, line
    finally:
        await runner.cancel()
        await asyncio.wait_for(running, timeout=5)


async def test_sentences_tools_and_warnings_go_where_they_belong() -> None:
    brain = ScriptedBrain(
        {
            "book it": [
                Say("One moment."),
                ToolCalled("book_appointment", True, 12.5),
                Warned("late", "The model was late."),
                Say("You are booked."),
            ]
        }
    )
    async with answering(brain) as (worker, sink, _, line):
        await worker.queue_frame(said("book it"))
        await sink.next_end()
    assert sink.sentences == ["One moment.", "You are booked."]
    assert [(tool["name"], tool["ok"], tool["turn"]) for tool in line.of_type("tool")] == [
        ("book_appointment", True, 0)
    ]
    assert [warning["code"] for warning in line.of_type("warning")] == ["late"]
    assert [each["text"] for each in line.of_type("transcript")] == ["book it"]
    assert not sink.hung_up


async def test_a_hang_up_comes_after_the_last_sentence() -> None:
    async with answering(ScriptedBrain({"bye": [Say("Goodbye."), HangUp()]})) as (worker, sink, _, _):
        await worker.queue_frame(said("bye"))
        await sink.next_end()
        await worker.flush_pipeline()
        assert (sink.sentences, sink.hung_up) == (["Goodbye."], True)


async def test_a_brain_that_fails_says_sorry_and_the_call_goes_on() -> None:
    brain = ScriptedBrain({"hi": [RuntimeError("as told")], "again": [Say("Yes.")]})
    async with answering(brain) as (worker, sink, _, line):
        await worker.queue_frame(said("hi"))
        await sink.next_end()
        await worker.queue_frame(said("again"))
        await sink.next_end()
    assert sink.sentences == [SORRY, "Yes."]
    assert [warning["code"] for warning in line.of_type("warning")] == ["brain_failed"]


async def interrupt(worker: PipelineWorker, conversation: Conversation) -> None:
    await conversation.interrupt()
    await worker.queue_frame(InterruptionFrame())


async def test_a_reply_that_was_broken_off_for_nothing_is_taken_up_at_its_sentence() -> None:
    brain = ScriptedBrain({"hours": [Say("We open at nine."), Say("We close at five."), Say("Anything else?")]})
    async with answering(brain) as (worker, sink, conversation, line):
        await worker.queue_frame(said("hours"))
        await sink.next_end()
        reply = sink.replies[0]
        for word in "We open at nine. We close".split():
            await conversation.words_sent(reply, word)
        await interrupt(worker, conversation)
        assert brain.spoken == [("We open at nine. We close", True)]
        assert line.stopped == 1

        await worker.queue_frame(NothingSaidFrame())
        await sink.next_end()
    assert sink.sentences[3:] == ["We close at five.", "Anything else?"]
    assert brain.heard == ["hours"]


async def test_a_reply_that_was_broken_off_before_it_began_is_thought_of_again() -> None:
    never = asyncio.Event()
    script = {"hours": [never, Say("We open at nine.")]}
    async with answering(ScriptedBrain(script)) as (worker, sink, conversation, _):
        await worker.queue_frame(said("hours"))
        await asyncio.wait_for(sink.began.wait(), timeout=5)
        await interrupt(worker, conversation)
        script["hours"] = [Say("We open at nine.")]
        await worker.queue_frame(NothingSaidFrame())
        await sink.next_end()
    assert sink.sentences == ["We open at nine."]


async def test_a_reply_that_was_broken_off_by_words_is_not_taken_up() -> None:
    brain = ScriptedBrain({"hours": [Say("We open at nine.")], "place": [Say("In town.")]})
    async with answering(brain) as (worker, sink, conversation, _):
        await worker.queue_frame(said("hours"))
        await sink.next_end()
        await interrupt(worker, conversation)
        await worker.queue_frame(said("place"))
        await sink.next_end()
        await worker.queue_frame(NothingSaidFrame())
        await worker.flush_pipeline()
    assert sink.sentences == ["We open at nine.", "In town."]
