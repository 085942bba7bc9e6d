"""When a call is over by the clock, and what others ask of it: a caller who comes back, a gateway that stops."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time

from gpu_workers import protocol
from voice.budgets import Budget
from voice.endings import (
    CALLER_LOST,
    CALLER_SILENT,
    CALLER_STUCK,
    CLOSED_BY_ANOTHER,
    SPENT,
    STOPPED,
    TAKEN_BY_ANOTHER,
    TIME_LIMIT,
    Ending,
)
from voice.ongoing import Fence, OngoingCall
from voice.options import Options
from voice.rounds import ROUND_SECONDS
from voice.sockets import CallerSocket, SideLost, WorkerSocket
from voice.starting import warn_before_seconds

MOST_ABSENCES = 10
"""So many times `resume_seconds` a call may last longer than its limit because its caller was away."""


class Change(enum.Enum):
    """What may happen to a call besides its end."""

    CALLER_LEFT = enum.auto()
    CALLER_ARRIVED = enum.auto()
    WORKER_LEFT = enum.auto()
    WORKER_FOUND = enum.auto()


class Watch:
    """Of one call, in all of its states. Somebody has to `look` once in `ROUND_SECONDS`: see voice.rounds."""

    def __init__(self, call: OngoingCall, *, max_seconds: int, budget: Budget, options: Options) -> None:
        self._call = call
        self._max_seconds = max_seconds
        self._budget = budget
        self._warn_before = warn_before_seconds(max_seconds, options)
        self._options = options
        self._worker: WorkerSocket | None = None
        self._until: float | None = None
        self._outcome: asyncio.Future[Ending | Change] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._warned: WorkerSocket | None = None
        self._warning: asyncio.Task[None] | None = None
        self._is_to_stop = False
        self._arrived: tuple[CallerSocket, str] | None = None
        call.on_fence = self._look_now

    def stop(self) -> None:
        """Have the call ended, or handed over: the gateway stops."""
        self._is_to_stop = True
        self._look_now()

    def arrive(self, caller: CallerSocket, token: str) -> tuple[CallerSocket, str] | None:
        """Announce a caller who came back. Returns one before, who was not taken in yet."""
        before, self._arrived = self._arrived, (caller, token)
        self._look_now()
        return before

    def take_arrival(self) -> tuple[CallerSocket, str] | None:
        arrived, self._arrived = self._arrived, None
        return arrived

    def outcome(
        self, *, worker: WorkerSocket | None = None, until: float | None = None
    ) -> asyncio.Future[Ending | Change]:
        """Return what is to become of the call, once something is; one state of the call is watched at a time.

        Args:
            worker: is told to wrap up when the time is nearly over.
            until: when the caller has to be back (monotonic seconds).
        """
        self._worker, self._until = worker, until
        self._outcome = asyncio.get_running_loop().create_future()
        self._look_now()
        return self._outcome

    def look(self, at: float) -> None:
        """See whether something is due, or will be before the next look."""
        outcome = self._outcome
        if outcome is None or outcome.done():
            return
        if (found := self._find(at)) is not None:
            outcome.set_result(found)
            return
        left_seconds, _ = self._left(at)
        worker = self._worker
        if worker is not None and self._warned is not worker and left_seconds <= self._warn_before:
            self._warned = worker
            self._warning = asyncio.create_task(_warn(worker, round(left_seconds)), name="warn")
        next_mark = left_seconds - (0 if worker is None or self._warned is worker else self._warn_before)
        pause = next_mark if self._until is None else min(next_mark, self._until - at)
        if pause < 2 * ROUND_SECONDS:
            if self._soon is not None:
                self._soon.cancel()
            self._soon = asyncio.get_running_loop().call_later(max(0.01, pause), self._look_now)

    def _look_now(self) -> None:
        self.look(time.monotonic())

    def _find(self, at: float) -> Ending | Change | None:
        call, options = self._call, self._options
        if call.fenced is not None:
            return TAKEN_BY_ANOTHER if call.fenced is Fence.TAKEN else CLOSED_BY_ANOTHER
        if self._arrived is not None:
            return Change.CALLER_ARRIVED
        if self._is_to_stop:
            return STOPPED
        if self._until is not None and at >= self._until:
            return CALLER_LOST
        left_seconds, ending = self._left(at)
        if left_seconds <= 0:
            return ending
        longest = self._max_seconds + MOST_ABSENCES * options.resume_seconds
        if call.ready_ms is not None and at - call.began > longest:
            return TIME_LIMIT
        return self._stalled(at) if call.clock.runs else None

    def _left(self, at: float) -> tuple[float, Ending]:
        """Return in how many seconds the call ends, and why: its own limit, or its tenant's for the month."""
        by_clock = self._max_seconds - self._call.duration_ms / 1000
        by_budget = self._budget.lasts(at)
        return (by_budget, SPENT) if by_budget < by_clock else (by_clock, TIME_LIMIT)

    def _stalled(self, at: float) -> Ending | Change | None:
        call, options = self._call, self._options
        if _waits_since(call.from_worker.waiting_since, at) > options.stuck_seconds:
            return Change.CALLER_LEFT if call.can_resume else CALLER_STUCK
        if _waits_since(call.from_caller.waiting_since, at) > options.stuck_seconds:
            return Change.WORKER_LEFT
        if at - call.from_caller.last_arrived_at > options.caller_silence_seconds:
            return CALLER_SILENT
        return None


async def _warn(worker: WorkerSocket, seconds_left: int) -> None:
    with contextlib.suppress(SideLost, TimeoutError):
        async with asyncio.timeout(1.0):
            await worker.send(protocol.metadata(protocol.wrap_up(seconds_left=seconds_left)))


def _waits_since(since: float | None, at: float) -> float:
    return 0.0 if since is None else at - since
