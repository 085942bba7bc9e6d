"""One call while it lasts: what its messages told, and what of it is not yet written. No sockets, no database."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import enum
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from content.transcripts import Line
from gpu_workers.protocol import ToolRun, Utterance
from provisioning.costs import cost_of
from provisioning.placing import Place
from voice.held import HeldSession, now, writable
from voice.metering import from_caller, from_worker
from voice.talk_clock import TalkClock
from voice.times import MOST_TURNS, DurationHistogram, Indexes, TurnTimes, turn_times

log = structlog.get_logger(__name__)

# What a worker may say of one call before it is taken for broken: lines of transcript, and characters in one.
MOST_LINES = 4 * MOST_TURNS
MOST_CHARACTERS = 10_000
MOST_REFUSALS = 50
REMEMBERED_LINES = 400
"""So much of a conversation is told to a worker that goes on with it."""


class Fence(enum.Enum):
    """What another writer did with a call."""

    CLOSED = enum.auto()
    TAKEN = enum.auto()
    """Another gateway goes on with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Earlier:
    """What a call had come to when this gateway took it over from another."""

    ready_ms: int | None = None
    first_audio_ms: int | None = None
    turns: int = 0
    cost_nano_dollars: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """What a worker told that is not yet written."""

    turns: list[TurnTimes]
    lines: list[Line]


class OngoingCall:
    """What the gateway knows of a call. `began` and all times of messages are monotonic seconds."""

    def __init__(
        self,
        *,
        call_id: uuid.UUID,
        tenant_id: uuid.UUID,
        epoch: int,
        began: float,
        setup_ms: int | None,
        can_resume: bool = False,
    ) -> None:
        self.call_id = call_id
        self.tenant_id = tenant_id
        self.epoch = epoch
        self.can_resume = can_resume
        """Its caller comes back when the connection is lost."""
        self.began = began
        self.setup_ms = setup_ms
        self.region = ""
        """In which it is held; before it is, near the caller."""
        self.caller_region = ""
        self.refused_places: list[dict[str, Any]] = []
        self.places: dict[str, list[Place]] = {}
        """Where its workers can be, by kind, as they were last found."""
        self.unused_places: list[Place] = []
        """What admission found: for the first search, a moment later."""
        self.ready: float | None = None
        self.earlier = Earlier()
        self.ended: float | None = None
        self.ended_at: datetime.datetime | None = None
        self.session: HeldSession | None = None
        """On which it is now."""
        self.opening: HeldSession | None = None
        """The first one that could talk: how a call began is what callers wait for."""
        self.sessions: list[HeldSession] = []
        self.failovers = 0
        self.resumes = 0
        self.clock = TalkClock()
        self.turns: dict[int, TurnTimes] = {}
        self.unsaved_turns: list[TurnTimes] = []
        self.unsaved_lines: list[Line] = []
        self.lines_count = 0
        self.said: collections.deque[Utterance] = collections.deque(maxlen=REMEMBERED_LINES)
        self.tools_run: list[ToolRun] = []
        self.delays = DurationHistogram()
        self.from_caller = from_caller(self.delays)
        self.from_worker = from_worker(self.delays, on_metadata=self.hear_worker, on_malformed=self._complain)
        self.on_turn: Callable[[], None] | None = None
        """Is called at each new turn, and when a gap is over."""
        self.news = asyncio.Event()
        """Set while there is something new to write."""
        self.written = began
        """When its counters were last written."""
        self.fenced: Fence | None = None
        """Another writer has taken or closed this call: nothing more is to be written."""
        self.leaves_workers = False
        """Another gateway goes on with its workers: they are let go of, and not given back."""
        self.on_fence: Callable[[], None] = lambda: None
        self.spent_token_is_void = False
        """The caller holds the newest token for coming back: the one used last is of no use any more."""
        self._first_reply: float | None = None
        self._indexes = Indexes()
        self._last_index = -1
        """The highest of all turns and lines."""
        self._greetings = {0}
        """Turns with which a worker began: they answer nothing."""
        self._log = log.bind(call_id=str(call_id), tenant_id=str(tenant_id))

    # --- marks on the way ------------------------------------------------------------------------------------------
    def since_began_ms(self, at: float) -> int:
        return round((at - self.began) * 1000)

    def grant(self, session: HeldSession) -> None:
        self.session = session
        self.sessions.append(session)
        self.region = session.region

    def grant_part(self, session: HeldSession) -> None:
        """Take in a session whose worker does a part of the engine's work."""
        self.sessions.append(session)

    def note_refusal(self, *, region: str, is_own: bool, waited_ms: int, why: str) -> None:
        """Remember a place that was tried and could not be had; `why` is the name of a close code."""
        if len(self.refused_places) < MOST_REFUSALS:
            self.refused_places.append({"region": region, "is_own": is_own, "waited_ms": waited_ms, "why": why})

    def go_on_from(
        self, *, last_index: int, lines_count: int, said: Iterable[Utterance], tools_run: Iterable[ToolRun]
    ) -> None:
        """Go on with a call that another gateway began. `last_index`: the highest of its turns, -1 without any."""
        self._last_index, self.lines_count = last_index, lines_count
        self.said.extend(said)
        self.tools_run.extend(tools_run)

    def become_ready(self) -> None:
        self.ready = time.monotonic()
        self.opening = self.session
        self.news.set()

    def fence(self, fence: Fence) -> None:
        if self.fenced is None:
            self.fenced = fence
            self.leaves_workers = fence is Fence.TAKEN
            self.on_fence()

    def talk(self) -> None:
        """Both sides are there."""
        if not self.clock.runs:
            at = time.monotonic()
            self.clock.start(at)
            self.from_caller.last_arrived_at = at
            self.from_caller.waiting_since = self.from_worker.waiting_since = None
            self.news.set()

    def lose_caller(self, at: float) -> None:
        self.clock.stop(at)
        self.spent_token_is_void = False
        self.news.set()

    def come_back(self, gap_ms: int) -> None:
        """The caller is there again, after so long."""
        self.resumes += 1
        self.clock.note_gap(gap_ms)
        self.spent_token_is_void = False
        self.news.set()

    def lose_worker(self, at: float) -> None:
        """Take note of when a worker was lost; the call goes on with another."""
        self.failovers += 1
        self.settle_gap()
        self.clock.begin_gap(at)
        for session in self.sessions:
            session.end("worker_lost", at)
        self.news.set()

    def meet_worker(self, *, replayed: int) -> None:
        """A further worker counts messages and turns from 0.

        Args:
            replayed: audio messages that it was sent before any of the caller's.
        """
        turn = self._last_index + 1
        self._greetings.add(turn)
        self._indexes = Indexes(
            caller=self.from_caller.audio_times.count - replayed,
            worker=self.from_worker.audio_times.count,
            turn=turn,
        )
        self.news.set()

    def settle_gap(self) -> None:
        """End a gap for which the worker names no turn: stock servers name none, and their audio has to do."""
        if (at := self.from_worker.audio_times.at(self._indexes.worker)) is not None:
            self._end_gap(at)

    def _end_gap(self, at: float) -> None:
        gap_ms = self.clock.end_gap(at)
        if gap_ms is not None and self.session is not None:
            self.session.gap_ms = gap_ms
            self._note_turn()

    def _note_turn(self) -> None:
        self.news.set()
        if self.on_turn is not None:
            self.on_turn()

    def end(self) -> None:
        """Stop the clock: what follows is tidying up, and nobody is billed for it."""
        if self.ended is None:
            self.ended, self.ended_at = time.monotonic(), now()
            self.clock.stop(self.ended)
            self.settle_gap()
            for session in self.sessions:
                if session.ended is None:
                    session.ended = self.ended  # why: as the call

    # --- figures ---------------------------------------------------------------------------------------------------
    @property
    def ready_ms(self) -> int | None:
        return self.earlier.ready_ms if self.ready is None else self.since_began_ms(self.ready)

    @property
    def first_audio_ms(self) -> int | None:
        """From the request to the first reply that the worker named; without such word, to its first audio message."""
        if self.earlier.first_audio_ms is not None:
            return self.earlier.first_audio_ms
        at = self._first_reply or self.from_worker.first_audio
        return None if at is None else self.since_began_ms(at)

    @property
    def duration_ms(self) -> int:
        """From ready to the end, or until now, without the times in which a side was gone."""
        return self.clock.talked_ms(time.monotonic())

    def cost_so_far(self) -> int:
        """Return nano-dollars, as if nobody else was on the containers."""
        at = time.monotonic()
        return self.earlier.cost_nano_dollars + sum(
            cost_of(session.active_ms(at), session.rate_nano_dollars_per_second) for session in self.sessions
        )

    @property
    def turns_count(self) -> int:
        return self.earlier.turns + sum(1 for index in self.turns if index not in self._greetings)

    @property
    def last_turn(self) -> TurnTimes | None:
        return self.turns[max(self.turns)] if self.turns else None

    # --- what is to be written -------------------------------------------------------------------------------------
    @property
    def has_news(self) -> bool:
        return bool(self.unsaved_turns or self.unsaved_lines)

    def take_news(self) -> News:
        """Return what is not yet written, to be given back if writing fails."""
        news = News(self.unsaved_turns, self.unsaved_lines)
        self.unsaved_turns, self.unsaved_lines = [], []
        self.news.clear()
        return news

    def give_back(self, news: News) -> None:
        self.unsaved_turns[:0] = news.turns
        self.unsaved_lines[:0] = news.lines
        self.news.set()

    # --- what the worker reports -----------------------------------------------------------------------------------
    def hear_worker(self, document: dict[str, Any]) -> None:
        """Take in one metadata message of the worker; what is not of its form is logged and let go."""
        match document["type"]:
            case "boot":
                self._hear_boot(document)
            case "part":
                self._hear_part(document)
            case "turn":
                self._hear_turn(document)
            case "transcript":
                self._hear_transcript(document)
            case "tool":
                self._hear_tool(document)
            case "warning":
                self._log.warning(
                    "worker.warned", code=str(document.get("code"))[:64], sentence=str(document.get("sentence"))[:300]
                )

    def _hear_boot(self, document: dict[str, Any]) -> None:
        if self.session is None or not self.session.hear_boot(document):
            return self._complain("boot metadata")
        self.news.set()

    def _hear_part(self, document: dict[str, Any]) -> None:
        """Take in how a container that does a part of the work came to be."""
        last_first = reversed(self.sessions)  # those of a place that was given up come before
        session = next((each for each in last_first if each.role == document.get("part") != "engine"), None)
        if session is None or not session.hear_boot(document):
            return self._complain("part metadata")
        self.news.set()

    def _hear_turn(self, document: dict[str, Any]) -> None:
        turn = turn_times(
            document,
            caller=self.from_caller.audio_times,
            worker=self.from_worker.audio_times,
            began=self.began,
            indexes=self._indexes,
        )
        if turn is None or turn.index in self.turns:
            return self._complain("turn metadata")
        replied = self.from_worker.audio_times.at(self._indexes.worker + int(document["reply_message"]))
        if self._first_reply is None:
            self._first_reply = replied
        self._end_gap(replied or time.monotonic())
        self.turns[turn.index] = turn
        self._last_index = max(self._last_index, turn.index)
        self.unsaved_turns.append(turn)
        self._note_turn()

    def _hear_transcript(self, document: dict[str, Any]) -> None:
        turn, role, words = document.get("turn"), document.get("role"), document.get("text")
        if (
            not isinstance(turn, int)
            or not 0 <= turn < MOST_TURNS
            or role not in ("caller", "agent")
            or not isinstance(words, str)
            or self.lines_count >= MOST_LINES
        ):
            return self._complain("transcript metadata")
        turn += self._indexes.turn
        self._last_index = max(self._last_index, turn)
        text = writable(words[:MOST_CHARACTERS])
        self.said.append(Utterance(role, text))
        self.unsaved_lines.append(
            Line(
                position=self.lines_count,
                turn_index=turn,
                role=role,
                text=text,
                interrupted=bool(document.get("interrupted")),
                at_ms=self.since_began_ms(time.monotonic()),
            )
        )
        self.lines_count += 1
        self.news.set()

    def _hear_tool(self, document: dict[str, Any]) -> None:
        name, ok = document.get("name"), document.get("ok")
        if not isinstance(name, str) or not isinstance(ok, bool) or len(self.tools_run) >= MOST_TURNS:
            return self._complain("tool metadata")
        self.tools_run.append(ToolRun(writable(name[:64]), ok))

    def _complain(self, what: str) -> None:
        self._log.warning("worker.malformed", what=what)
