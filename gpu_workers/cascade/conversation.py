"""One conversation: its turns, what was really spoken, and what is reported of it.

Knows the brain and the line, not the pipeline between them.
"""

from __future__ import annotations

import dataclasses
import logging
import time

from gpu_workers import protocol
from gpu_workers.cascade.brain import Brain
from gpu_workers.cascade.passages import Passage
from gpu_workers.line import Line

logger = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class CallerTurn:
    """What the caller said, and when. Times are on the clock of `time.monotonic`."""

    words: str
    message: int | None
    speech_ended_at: float
    decided_at: float
    """When the turn was taken to be over."""
    transcribed_at: float
    """When the words were known; not before `decided_at`."""


@dataclasses.dataclass(slots=True)
class Reply:
    """One answer of the agent, while it is made and spoken."""

    index: int
    turn: CallerTurn | None
    """None for the greeting and for what the agent says unasked."""
    began_at: float
    sentences: list[str] = dataclasses.field(default_factory=list)
    """What the brain gave to be spoken."""
    passages: list[Passage] = dataclasses.field(default_factory=list)
    """What the brain gave with a voice of its own."""
    words: list[str] = dataclasses.field(default_factory=list)
    """What was sent to the caller."""
    first_sentence_at: float | None = None
    first_audio_at: float | None = None
    over: bool = False

    def unsaid(self) -> list[str]:
        """Return the sentences that were not spoken, from the one that was broken off."""
        spoken = len(self.words)
        for position, sentence in enumerate(self.sentences):
            spoken -= len(sentence.split())
            if spoken < 0:
                return self.sentences[position:]
        return []


class Conversation:
    def __init__(self, line: Line, brain: Brain) -> None:
        self.line = line
        self.brain = brain
        self._replies = 0
        self._open: list[Reply] = []
        self.interrupted: Reply | None = None
        """The reply that was broken off last, until the next one begins."""

    @property
    def agent_has_the_floor(self) -> bool:
        """Whether a reply is being made or spoken."""
        return bool(self._open)

    async def begin_reply(self, turn: CallerTurn | None) -> Reply:
        """Open the reply to a turn, and report what the caller said."""
        reply = Reply(self._replies, turn, time.monotonic())
        self._replies += 1
        self._open.append(reply)
        self.interrupted = None
        if turn is not None:
            logger.info("caller spoke", extra={"fields": {"turn": reply.index, "characters": len(turn.words)}})
            await self.line.send_metadata(protocol.transcript(turn=reply.index, role="caller", words=turn.words))
        return reply

    async def report_tool(self, reply: Reply, *, name: str, ok: bool, duration_ms: float) -> None:
        await self.line.send_metadata(protocol.tool(turn=reply.index, name=name, ok=ok, duration_ms=duration_ms))

    async def first_audio_sent(self, reply: Reply, message: int) -> None:
        """Report the turn's times; `message` is the index of the reply's first audio message."""
        reply.first_audio_at = time.monotonic()
        await self.line.send_metadata(
            protocol.turn(
                index=reply.index,
                speech_ended_message=reply.turn.message if reply.turn else None,
                reply_message=message,
                parts_ms=_parts_ms(reply),
            )
        )

    async def words_sent(self, reply: Reply, words: str) -> None:
        if not reply.over:
            reply.words.append(words)
            await self.line.send_text(words + " ")

    async def end_reply(self, reply: Reply, *, interrupted: bool = False) -> None:
        """Close a reply: what was spoken is told to the brain and reported. Does nothing the second time."""
        if reply.over:
            return
        reply.over = True
        self._open.remove(reply)
        spoken = " ".join(reply.words)
        self.brain.was_spoken(spoken, interrupted=interrupted)
        if spoken:
            await self.line.send_metadata(
                protocol.transcript(turn=reply.index, role="agent", words=spoken, interrupted=interrupted)
            )

    async def interrupt(self) -> None:
        """Stop speaking at once, and close all replies with what was spoken of them."""
        self.line.stop_speaking()
        for reply in list(self._open):
            self.interrupted = self.interrupted or reply
            await self.end_reply(reply, interrupted=True)

    async def warn(self, *, code: str, sentence: str) -> None:
        await self.line.send_metadata(protocol.warning(code=code, sentence=sentence))


def _parts_ms(reply: Reply) -> dict[str, float]:
    """Return the parts of the time from the end of speech to the first audio; none overlaps another.

    Of a brain with a voice of its own nobody knows how long it thought, and how long its voice took.
    """
    assert reply.first_audio_at is not None
    parts = {}
    if not reply.passages:
        first_sentence_at = reply.first_sentence_at or reply.first_audio_at
        parts["llm_ttft"] = first_sentence_at - reply.began_at
        parts["tts_ttfb"] = reply.first_audio_at - first_sentence_at
    if reply.turn is not None:
        parts["end_of_turn"] = reply.turn.decided_at - reply.turn.speech_ended_at
        parts["stt"] = reply.turn.transcribed_at - reply.turn.decided_at
    return {name: seconds * 1000 for name, seconds in parts.items()}
