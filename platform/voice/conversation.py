"""The two sides of one call, from finding a worker to the end: either may be lost, and the call goes on.

    both are there          they talk
    the caller alone        another worker is found, and told the conversation so far
    no caller               the call waits for the caller to come back, and keeps the worker's latest words

How messages pass is voice.relay, when a call is over by the clock voice.watching; of audio it keeps the header pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any

import structlog
from opentelemetry import trace
from psycopg_pool import AsyncConnectionPool

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode
from provisioning.backends import OpenBackends
from voice import metrics, telling
from voice.admission import Admitted
from voice.backlog import Backlog
from voice.budgets import Budget
from voice.endings import (
    FAILED,
    GOODBYES,
    HUNG_UP,
    WORKER_LOST,
    Ending,
    callers_fault,
    of_worker,
    without_a_worker,
)
from voice.frames import Frames, lets_pass
from voice.held import HeldSession
from voice.models import EndReason
from voice.ogg import StreamHead
from voice.ongoing import OngoingCall
from voice.options import Options
from voice.recording import Recorder, Recordings
from voice.relay import pump, run_until_first, splice
from voice.search import Search
from voice.sockets import CallerFault, CallerSocket, SideLost, WorkerSocket, WorkerUnavailable
from voice.watching import Change, Watch

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("warmline.gateway")

CLOSE_NOTICE_SECONDS = 0.5
TELL_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 15.0
"""How often a worker whose caller is away hears something: it would take a silent line for a lost one."""


class Conversation:
    """One call of this gateway's. `again`: the place that it had with another gateway."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        backends: OpenBackends,
        caller: CallerSocket,
        admitted: Admitted,
        call: OngoingCall,
        options: Options,
        *,
        recordings: Recordings,
        budget: Budget,
        again: HeldSession | None = None,
    ) -> None:
        self._search = Search(pool, backends, admitted, call, options, again=again)
        self._options = options
        self._admitted = admitted
        self.call = call
        self.caller: CallerSocket | None = caller
        self.watch = Watch(call, max_seconds=admitted.max_seconds, budget=budget, options=options)
        self._recordings = recordings
        self._recorder: Recorder | None = None
        self.is_over = False
        self.closed = asyncio.Event()
        """Set by the gateway when the end is written, or the call left to another."""
        self._token = admitted.resume_token
        self._is_new_caller = True
        self._ear = StreamHead()
        self._caller_lost_at = 0.0
        self._meanwhile = Newest(options.away_bytes)
        self._worker: WorkerSocket | None = None
        self._is_further_worker = call.ready_ms is not None
        self._voice = StreamHead()
        self._teller: telling.Teller | None = None
        self._tidying: set[asyncio.Task[None]] = set()

    def look(self, at: float) -> None:
        """Do what is due by the clock; to be called once a second."""
        self.watch.look(at)
        if self._teller is not None:
            self._teller.look(at)

    async def hold(self) -> Ending:
        """Return why the call ended; errors of either side are ends too."""
        try:
            while True:
                if self.caller is None:
                    outcome = await self._wait_for_caller()
                elif self._worker is None:
                    with tracer.start_as_current_span("reserve"):
                        outcome = await self._find_worker(self.caller)
                else:
                    with tracer.start_as_current_span("talk"):
                        outcome = await self._talk(self.caller, self._worker)
                if (ending := await self._take(outcome)) is not None:
                    return ending
        except CallerFault as fault:
            return Ending(EndReason.CALLER_FAULT, fault.close_code)
        except WorkerUnavailable as problem:
            log.warning("worker.unavailable", problem=str(problem))
            if self.call.ready_ms is not None:
                return WORKER_LOST
            return without_a_worker(problem)
        except Exception:
            log.exception("call.failed")
            return FAILED
        finally:
            self.is_over = True
            while self._meanwhile.first() is not None:  # nobody will hear it
                self.call.from_worker.take_back(self._meanwhile.drop_first())

    def arrive(self, caller: CallerSocket, token: str) -> bool:
        """Take in a caller who came back; False where it is too late."""
        if self.is_over:
            return False
        if before := self.watch.arrive(caller, token):
            self._dismiss(before[0], CloseCode.RESUMED_ELSEWHERE)
        return True

    async def release(self) -> None:
        """Close the worker's side and give its place back, or leave both to the gateway that goes on with the call."""
        if arrived := self.watch.take_arrival():
            goes_on = self.call.leaves_workers
            self._dismiss(arrived[0], CloseCode.GOING_AWAY if goes_on else CloseCode.CANNOT_RESUME)
        try:
            await asyncio.gather(self._search.close(), *self._tidying)
        finally:
            if self._recorder is not None:
                await self._recorder.finish(is_all=not self.call.leaves_workers)

    async def _take(self, outcome: Ending | Change) -> Ending | None:
        """Act on what happened; None where the call goes on."""
        match outcome:
            case Change.CALLER_LEFT:
                return await self._caller_left()
            case Change.CALLER_ARRIVED:
                self._welcome()
            case Change.WORKER_LEFT:
                return await self._worker_left()
            case Ending():
                return outcome
        return None

    # --- a worker --------------------------------------------------------------------------------------------------
    async def _find_worker(self, caller: CallerSocket) -> Ending | Change:
        return await run_until_first(
            {"worker": self._found(), "caller": self._wait_for_hang_up(caller), "watch": self.watch.outcome()}
        )

    async def _found(self) -> Change:
        if self._recorder is None:
            self._recorder = await self._begin_recording()
        # A call that had a worker has its caller on the line: it looks for longer.
        patience = self._options.failover_seconds if self._is_further_worker else 0.0
        self._worker = await self._search.find(patience_seconds=patience)
        return Change.WORKER_FOUND

    async def _begin_recording(self) -> Recorder | None:
        return await self._recordings.begin(
            self._admitted.config,
            tenant_id=self.call.tenant_id,
            call_id=self.call.call_id,
            began=self.call.began,
            from_caller=self.call.from_caller,
            from_worker=self.call.from_worker,
        )

    async def _wait_for_hang_up(self, caller: CallerSocket) -> Change:
        """Keep what the caller says already; once that is too much, the caller has to wait."""
        if await caller.hold(self._options.early_bytes):
            return Change.CALLER_LEFT
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    async def _worker_left(self) -> Ending | None:
        worker = self._worker
        assert worker is not None
        ending = of_worker(worker)
        if ending is not WORKER_LOST or self.call.failovers >= self._options.most_failovers:
            return ending
        log.warning("worker.lost", close_code=worker.close_code, failovers=self.call.failovers + 1)
        metrics.WORKERS_LOST.inc()
        stuck_since = self.call.from_caller.waiting_since or time.monotonic()
        self.call.lose_worker(stuck_since if worker.close_code is None else worker.frames.closed_at)
        worker.abort()
        self._tidy(self._search.let_go())
        self._worker, self._is_further_worker, self._voice = None, True, StreamHead()
        if self.caller is not None:
            with contextlib.suppress(SideLost, TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self.caller.send(telling.reconnecting())
        return None

    # --- a caller --------------------------------------------------------------------------------------------------
    async def _wait_for_caller(self) -> Ending | Change:
        until = self._caller_lost_at + self._options.resume_seconds
        parts: dict[str, Awaitable[Ending | Change]] = {"watch": self.watch.outcome(worker=self._worker, until=until)}
        if self._worker is not None:
            parts["agent"] = self._keep_what_is_said(self._worker)
            parts["line"] = _keep_alive(self._worker)
        return await run_until_first(parts)

    async def _keep_what_is_said(self, worker: WorkerSocket) -> Change:
        """Keep the newest of what the agent says to nobody: it is heard when the caller is back."""
        async for message in worker:
            if not lets_pass(self.call.from_worker, message, time.monotonic()):
                continue
            self._voice.look(message)
            for oldest in self._meanwhile.add(message):
                self.call.from_worker.take_back(oldest)
        return Change.WORKER_LEFT

    async def _caller_left(self) -> Ending | None:
        caller = self.caller
        assert caller is not None
        if caller.frames is not None and caller.frames.close_code is not None:
            caller.note_close(caller.frames.close_code)
        with contextlib.suppress(TimeoutError):  # who reads from the caller learns how it closed now or very soon
            async with asyncio.timeout(CLOSE_NOTICE_SECONDS):
                await caller.has_closed.wait()
        if (ending := callers_fault(caller.close_code)) is not None:
            return ending
        has_token = self.call.can_resume and self.call.ready_ms is not None
        if caller.close_code in GOODBYES or not has_token:
            if caller.close_code not in GOODBYES:
                metrics.CALLERS_LOST.labels(can_resume="no").inc()
            return HUNG_UP
        metrics.CALLERS_LOST.labels(can_resume="yes").inc()
        log.warning("caller.lost", close_code=caller.close_code)
        self._lose_caller(CloseCode.GOING_AWAY)
        return None

    def _lose_caller(self, code: CloseCode) -> None:
        assert self.caller is not None
        # Clients send audio all the time: since the last of it nobody was there.
        lost_at = self.call.from_caller.last_arrived_at if self.call.clock.runs else time.monotonic()
        self._caller_lost_at = lost_at
        self.call.lose_caller(lost_at)
        self._dismiss(self.caller, code)
        self.caller = None

    def _welcome(self) -> None:
        """Go on with a caller who came back, also where the old connection does not look lost yet."""
        arrived = self.watch.take_arrival()
        assert arrived is not None
        if self.caller is not None:
            self._lose_caller(CloseCode.RESUMED_ELSEWHERE)
        self.caller, self._token = arrived
        self._is_new_caller, self._ear = True, StreamHead()
        self.call.come_back(round((time.monotonic() - self._caller_lost_at) * 1000))
        metrics.RESUMES.labels(gateway="same").inc()
        log.info("caller.back", resumes=self.call.resumes)

    def _dismiss(self, caller: CallerSocket, code: CloseCode) -> None:
        async def close() -> None:
            await caller.close(code)
            caller.left.set()

        self._tidy(close())

    def _tidy(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the call, which waits for it in the end."""
        task = asyncio.create_task(work, name="tidy up")
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    # --- both ------------------------------------------------------------------------------------------------------
    async def _talk(self, caller: CallerSocket, worker: WorkerSocket) -> Ending | Change:
        try:
            async with asyncio.timeout(self._options.stuck_seconds):
                await self._join(caller, worker)
        except (SideLost, TimeoutError):
            return Change.CALLER_LEFT if worker.close_code is None else Change.WORKER_LEFT
        parts: dict[str, Awaitable[Ending | Change]] = {"watch": self.watch.outcome(worker=worker)}
        if caller.frames is not None:
            parts["splice"] = self._splice(caller, worker, caller.frames)
        else:
            parts["caller to worker"] = self._carry_to_worker(caller, worker)
            parts["worker to caller"] = self._carry_to_caller(caller, worker)
        self._teller = telling.Teller(self.call, caller)
        try:
            return await run_until_first(parts)
        finally:
            self._teller.stop()
            self._teller = None

    async def _join(self, caller: CallerSocket, worker: WorkerSocket) -> None:
        """Bring a side that is new up to date: a caller with the handshake, each with the other's header pages."""
        call, replayed = self.call, 0
        if self._is_new_caller:
            await caller.send(worker.handshake)
            if call.ready_ms is None:
                call.become_ready()
            await caller.send(
                telling.call(
                    call,
                    max_seconds=self._admitted.max_seconds,
                    resume_token=self._token,
                    resume_seconds=self._options.resume_seconds,
                    is_recorded=self._recorder is not None,
                )
            )
            if self._voice.pages:
                await caller.send(protocol.audio(self._voice.pages))
            while (message := self._meanwhile.first()) is not None:
                await caller.send(message)
                self._meanwhile.drop_first()
        elif self._is_further_worker and self._ear.pages:
            await worker.send(protocol.audio(self._ear.pages))
            replayed = 1
        if self._is_further_worker:
            call.meet_worker(replayed=replayed)
        self._is_new_caller = self._is_further_worker = False
        call.talk()

    async def _splice(self, caller: CallerSocket, worker: WorkerSocket, frames: Frames) -> Change:
        call, voice = self.call, self._voice if self.call.can_resume else None
        with contextlib.suppress(SideLost):  # which the splice finds too
            await pump(worker.held(), caller, call.from_worker, voice)
            await pump(caller.held(), worker, call.from_caller, self._ear)
        first = await splice(
            frames, worker.frames, call.from_caller, call.from_worker, at_caller=self._ear, at_worker=voice
        )
        return Change.WORKER_LEFT if first is worker.frames else Change.CALLER_LEFT

    async def _carry_to_worker(self, caller: CallerSocket, worker: WorkerSocket) -> Change:
        try:
            await pump(caller, worker, self.call.from_caller, self._ear)
        except SideLost:
            # The worker's last words may be on their way to a slow caller: when they are through, it has left.
            self.call.from_caller.waiting_since = None
            return await self._wait_for_hang_up(caller)
        return Change.CALLER_LEFT

    async def _carry_to_caller(self, caller: CallerSocket, worker: WorkerSocket) -> Change:
        try:
            await pump(worker, caller, self.call.from_worker, self._voice)
        except SideLost:
            return Change.CALLER_LEFT
        return Change.WORKER_LEFT


class Newest:
    """Messages, the newest of them, up to a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._messages: Backlog[bytes] = Backlog()
        self._bytes = 0

    def add(self, message: bytes) -> Iterator[bytes]:
        """Take in a message; gives those that have no room any more."""
        self._messages.append(message)
        self._bytes += len(message)
        while self._bytes > self._most_bytes:
            yield self.drop_first()

    def first(self) -> bytes | None:
        return self._messages.first()

    def drop_first(self) -> bytes:
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message


async def _keep_alive(worker: WorkerSocket) -> Change:
    with contextlib.suppress(SideLost):
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            await worker.send(protocol.PING)
    return Change.WORKER_LEFT
