"""One call while it lasts: what its messages told, and what of it is not yet written. No sockets, no database."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
import uuid
from typing import Any

import structlog

from content.transcripts import Line
from gpu_workers.protocol import BootKind
from provisioning.costs import cost_of
from voice.metering import FromCaller, FromWorker
from voice.times import MOST_TURNS, DurationHistogram, TurnTimes, milliseconds, turn_times

log = structlog.get_logger(__name__)

# What a worker may say of one call before it is taken for broken: lines of transcript, and characters in one.
MOST_LINES = 4 * MOST_TURNS
MOST_CHARACTERS = 10_000


def _writable(text: str) -> str:
    """Return the text without what no UTF-8 or no database column holds: halves of surrogate pairs, NUL."""
    return text.encode(errors="replace").decode().replace("\0", "")


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass(slots=True)
class HeldSession:
    """A place on a container, as this call holds it."""

    id: uuid.UUID
    pool_id: uuid.UUID
    deployment_id: uuid.UUID
    region: str
    container: str
    backend_ref: str
    rate_nano_dollars_per_second: int
    granted_at: datetime.datetime
    granted: float
    """Monotonic seconds."""
    reserve_ms: int
    role: str = "engine"
    connect_ms: int | None = None
    boot: str = ""
    boot_ms: int | None = None
    ended: float | None = None
    why_ended: str = ""

    def end(self, why: str) -> None:
        if self.ended is None:
            self.ended, self.why_ended = time.monotonic(), why

    def hear_boot(self, document: dict[str, Any]) -> bool:
        """Take in how the container came to be; False where the document is not of its form."""
        boot, age_ms = document.get("boot"), milliseconds(document.get("ready_age_ms"))
        if boot not in list(BootKind) or age_ms is None:
            return False
        # Had the container been able to talk for longer than this call waited for it, the call found it warm.
        waited_ms = self.reserve_ms + (self.connect_ms or 0)
        self.boot = str(BootKind.WARM) if age_ms > waited_ms else str(boot)
        self.boot_ms = milliseconds(document.get("boot_ms"))
        if container := document.get("container"):
            self.container = _writable(str(container))[:120]
        return True

    def active_ms(self, at: float) -> int:
        return round(((self.ended or at) - self.granted) * 1000)


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """What a worker told that is not yet written."""

    turns: list[TurnTimes]
    lines: list[Line]


class OngoingCall:
    """What the gateway knows of a call. `began` and all times of messages are monotonic seconds."""

    def __init__(self, *, call_id: uuid.UUID, tenant_id: uuid.UUID, epoch: int, began: float, setup_ms: int) -> None:
        self.call_id = call_id
        self.tenant_id = tenant_id
        self.epoch = epoch
        self.began = began
        self.setup_ms = setup_ms
        self.region = ""
        """In which it is held; before it is, near the caller."""
        self.caller_region = ""
        self.refused_places: list[dict[str, Any]] = []
        self.ready: float | None = None
        self.ended: float | None = None
        self.ended_at: datetime.datetime | None = None
        self.session: HeldSession | None = None
        self.sessions: list[HeldSession] = []
        self.turns: dict[int, TurnTimes] = {}
        self.unsaved_turns: list[TurnTimes] = []
        self.unsaved_lines: list[Line] = []
        self.lines_count = 0
        self.delays = DurationHistogram()
        self.from_caller = FromCaller(self.delays)
        self.from_worker = FromWorker(self.delays, on_metadata=self.hear_worker, on_malformed=self._complain)
        self.turn_was_heard = asyncio.Event()
        """Set at each new turn, for who tells the caller; that one clears it."""
        self.news = asyncio.Event()
        """Set while there is something new to write."""
        self.written = began
        """When its counters were last written."""
        self.is_fenced = False
        """Another writer has closed this call."""
        self._first_reply: float | None = None
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
        self.refused_places.append({"region": region, "is_own": is_own, "waited_ms": waited_ms, "why": why})

    def become_ready(self) -> None:
        self.ready = time.monotonic()
        self.news.set()

    def end(self) -> None:
        """Stop the clock: what follows is tidying up, and nobody is billed for it."""
        if self.ended is None:
            self.ended, self.ended_at = time.monotonic(), now()
            for session in self.sessions:
                if session.ended is None:
                    session.ended = self.ended  # why: as the call

    # --- figures ---------------------------------------------------------------------------------------------------
    @property
    def ready_ms(self) -> int | None:
        return None if self.ready is None else self.since_began_ms(self.ready)

    @property
    def first_audio_ms(self) -> int | None:
        """From the request to the first reply that the worker named; without such word, to its first audio message."""
        at = self._first_reply or self.from_worker.first_audio
        return None if at is None else self.since_began_ms(at)

    @property
    def duration_ms(self) -> int:
        """From ready to the end, or until now."""
        return 0 if self.ready is None else round(((self.ended or time.monotonic()) - self.ready) * 1000)

    def cost_so_far(self) -> int:
        """Return nano-dollars, as if nobody else was on the containers."""
        at = time.monotonic()
        return sum(cost_of(session.active_ms(at), session.rate_nano_dollars_per_second) for session in self.sessions)

    @property
    def turns_count(self) -> int:
        return sum(1 for index in self.turns if index > 0)

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
            document, caller=self.from_caller.audio_times, worker=self.from_worker.audio_times, began=self.began
        )
        if turn is None or turn.index in self.turns:
            return self._complain("turn metadata")
        if self._first_reply is None:
            self._first_reply = self.from_worker.audio_times.at(int(document["reply_message"]))
        self.turns[turn.index] = turn
        self.unsaved_turns.append(turn)
        self.turn_was_heard.set()
        self.news.set()

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
        self.unsaved_lines.append(
            Line(
                position=self.lines_count,
                turn_index=turn,
                role=role,
                text=_writable(words[:MOST_CHARACTERS]),
                interrupted=bool(document.get("interrupted")),
                at_ms=self.since_began_ms(time.monotonic()),
            )
        )
        self.lines_count += 1
        self.news.set()

    def _complain(self, what: str) -> None:
        self._log.warning("worker.malformed", what=what)
