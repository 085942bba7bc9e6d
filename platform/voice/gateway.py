"""One call from its request to its end: admit, place, talk, close.

It knows the order of things. What may begin a call is voice.admission, how messages pass is voice.relay, what is
written is voice.calls; of audio it knows nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import structlog
from opentelemetry import trace
from psycopg_pool import AsyncConnectionPool

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode
from provisioning.backends import OpenBackends
from voice import live, metrics
from voice.admission import Admitted, Refused, Request, read_path
from voice.budgets import Budgets
from voice.caller_protocol import EXTENSION
from voice.calls import DATABASE_AWAY, Ending, close_call, keep_writing
from voice.checkpoints import QuietCalls
from voice.doors import Doors
from voice.frames import ABNORMAL, Frames
from voice.models import EndReason
from voice.ongoing import OngoingCall, now
from voice.options import Options
from voice.reaching import reached_worker
from voice.recording import Recorder, Recordings
from voice.relay import pump, run_until_first, splice
from voice.sockets import CallerFault, CallerSocket, SideLost, WorkerSocket, WorkerUnavailable
from voice.starting import parts_of, services_of, start_of, warn_before_seconds
from voice.whereabouts import region_of_request

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("warmline.gateway")

STATS_SECONDS = 3.0
"""How often a caller is told figures while nothing happens."""
CLOSE_NOTICE_SECONDS = 0.5

HUNG_UP = Ending(EndReason.CALLER_HUNG_UP, CloseCode.NORMAL)
TIME_LIMIT = Ending(EndReason.TIME_LIMIT, CloseCode.TIME_LIMIT)
SPENT = Ending(EndReason.SPEND_CAP, CloseCode.SPEND_CAP)
STOPPED = Ending(EndReason.GATEWAY_STOPPED, CloseCode.GOING_AWAY)
FAILED = Ending(EndReason.FAILED, CloseCode.INTERNAL_ERROR)


class Gateway:
    """The calls of this process, and what they share."""

    def __init__(self, options: Options, pool: AsyncConnectionPool[Any], backends: OpenBackends) -> None:
        self.options = options
        self.pool = pool
        self.backends = backends
        self.quiet_calls = QuietCalls(pool, options)
        self.doors = Doors(pool, options)
        self.recordings = Recordings(pool, options)
        self.budgets = Budgets(pool, options)
        self.is_draining = False
        self.calls: set[asyncio.Task[None]] = set()
        self.goodbye = asyncio.Event()
        """Set when live calls are to end now."""

    async def take_call(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one WebSocket request: a call, or a refusal told by a close code."""
        began, extension = time.monotonic(), scope.get("extensions", {}).get(EXTENSION)
        caller = CallerSocket(receive, send, frames=extension and extension["connection"])
        try:
            await caller.accept()
        except SideLost:
            return
        # A task of its own: a server that gives up on the request does not cut short the call's end.
        task = asyncio.create_task(self._serve(caller, _read_request(scope, self.options), began), name="call")
        self.calls.add(task)
        task.add_done_callback(self.calls.discard)
        await asyncio.shield(task)

    async def drain(self) -> None:
        """Take no new calls, let the live ones end within the time given, then say goodbye to the rest."""
        self.is_draining = True
        log.info("gateway.draining", calls=len(self.calls), seconds=self.options.drain_seconds)
        if self.calls:
            await asyncio.wait(self.calls, timeout=self.options.drain_seconds)
        self.goodbye.set()
        if self.calls:
            await asyncio.wait(self.calls, timeout=self.options.close_retry_seconds)
        log.info("gateway.drained", calls=len(self.calls))

    async def _serve(self, caller: CallerSocket, request: Request | None, began: float) -> None:
        try:
            with tracer.start_as_current_span("call"):
                admitted = await self._admit(request)
                await self._conduct(caller, admitted, began)
        except Refused as refusal:
            metrics.REFUSALS.labels(reason=refusal.close_code.name.lower()).inc()
            log.info("call.refused", reason=refusal.close_code.name.lower())
            await caller.close(refusal.close_code)
        except Exception:
            log.exception("call.failed")
            await caller.close(CloseCode.INTERNAL_ERROR)

    async def _admit(self, request: Request | None) -> Admitted:
        if self.is_draining:
            raise Refused(CloseCode.GOING_AWAY)
        if request is None:
            raise Refused(CloseCode.AGENT_UNKNOWN)
        with tracer.start_as_current_span("admit"):
            try:
                async with asyncio.timeout(self.options.database_seconds):
                    return await self.doors.admit(request, callers=len(self.calls))
            except DATABASE_AWAY as problem:
                log.warning("database.away", problem=repr(problem))
                raise Refused(CloseCode.TRY_AGAIN_LATER) from problem

    async def _conduct(self, caller: CallerSocket, admitted: Admitted, began: float) -> None:
        """Hold an opened call, and close it however it ends."""
        call = OngoingCall(
            call_id=admitted.call_id,
            tenant_id=admitted.tenant_id,
            epoch=admitted.epoch,
            began=began,
            setup_ms=round((time.monotonic() - began) * 1000),
        )
        call.region = call.caller_region = admitted.region
        trace.get_current_span().set_attributes(
            {"call.id": str(call.call_id), "tenant.id": str(call.tenant_id), "agent": admitted.agent_slug}
        )
        with (
            structlog.contextvars.bound_contextvars(call_id=str(call.call_id), tenant_id=str(call.tenant_id)),
            metrics.LIVE_CALLS.track_inprogress(),
        ):
            log.info("call.opened", agent=admitted.agent_slug, channel=admitted.channel)
            live.announce(call.tenant_id, "opened", {"id": str(call.call_id), "agent": admitted.agent_slug})
            writing = asyncio.create_task(keep_writing(self.pool, call, self.options), name="write news")
            self.quiet_calls.add(call)
            conversation = _Conversation(self, caller, admitted, call)
            ending = FAILED
            try:
                ending = await conversation.hold()
            finally:
                call.end()
                self.quiet_calls.remove(call)
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                await self._close(caller, conversation, call, ending)

    async def _close(
        self, caller: CallerSocket, conversation: _Conversation, call: OngoingCall, ending: Ending
    ) -> None:
        """Tell both sides, give the place back and write the end, side by side: none waits for another."""
        with tracer.start_as_current_span("close"):
            results = await asyncio.gather(
                caller.close(ending.close_code),
                conversation.release(),
                close_call(self.pool, call, ending, self.options),
                return_exceptions=True,
            )
        for problem in results:
            if isinstance(problem, BaseException):
                log.error("call.closed_badly", exc_info=problem)
        metrics.observe_end(call, ending)
        log.info("call.ended", end_reason=ending.reason.value, duration_ms=call.duration_ms, turns=call.turns_count)


class _Conversation:
    """The two sides of one call, from finding a worker to the first side that ends."""

    def __init__(self, gateway: Gateway, caller: CallerSocket, admitted: Admitted, call: OngoingCall) -> None:
        self.gateway = gateway
        self.options = gateway.options
        self.caller = caller
        self.admitted = admitted
        self.call = call
        self.worker: WorkerSocket | None = None
        self.recorder: Recorder | None = None
        self.budget = gateway.budgets.join(
            call.tenant_id, left_seconds=admitted.seconds_left, live_calls=admitted.live_calls
        )
        self._held = contextlib.AsyncExitStack()

    async def hold(self) -> Ending:
        """Return why the call ended; errors of either side are ends too."""
        try:
            with tracer.start_as_current_span("reserve"):
                ending = await run_until_first(
                    {
                        "worker": self._reach_worker(),
                        "caller": self._wait_for_hang_up(),
                        "clock": self._wait_for_goodbye(),
                    }
                )
            if ending is not None:
                return ending
            with tracer.start_as_current_span("talk"):
                return await self._talk()
        except SideLost:
            return await self._how_caller_ended()
        except CallerFault as fault:
            return Ending(EndReason.CALLER_FAULT, fault.close_code)
        except WorkerUnavailable as problem:
            log.warning("worker.unavailable", problem=str(problem))
            return Ending(_WHY_NO_WORKER.get(problem.close_code, EndReason.NO_WORKER), problem.close_code)
        except Exception:
            log.exception("call.failed")
            return FAILED

    async def release(self) -> None:
        """Close the worker's side, give its place back, and finish what was recorded."""
        self.gateway.budgets.leave(self.call.tenant_id)
        try:
            await self._held.aclose()
        finally:
            if self.recorder is not None:
                await self.recorder.finish()

    # --- before there is a worker ----------------------------------------------------------------------------------
    async def _reach_worker(self) -> Ending | None:
        self.recorder = await self._begin_recording()
        services = await services_of(self.gateway.pool, self.admitted, self.options)
        start = start_of(self.admitted, self.options, services)
        self.worker = await self._held.enter_async_context(
            reached_worker(
                self.gateway.pool,
                self.gateway.backends,
                self.call,
                self.admitted.engine,
                start,
                parts_of(self.admitted.config),
                self.options,
            )
        )
        return None

    async def _begin_recording(self) -> Recorder | None:
        return self.recorder or await self.gateway.recordings.begin(
            self.admitted.config,
            tenant_id=self.call.tenant_id,
            call_id=self.call.call_id,
            began=self.call.began,
            from_caller=self.call.from_caller,
            from_worker=self.call.from_worker,
        )

    async def _wait_for_hang_up(self) -> Ending:
        """Keep what the caller says already; once that is too much, the caller has to wait."""
        if await self.caller.hold(self.options.early_bytes):
            return await self._how_caller_ended()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    async def _wait_for_goodbye(self) -> Ending:
        await self.gateway.goodbye.wait()
        return STOPPED

    # --- talking ---------------------------------------------------------------------------------------------------
    async def _talk(self) -> Ending:
        assert self.worker is not None
        await self.caller.send(self.worker.handshake)
        self.call.become_ready()
        await self.caller.send(self._call_metadata())
        watches = {"clock": self._watch_clock(self.worker), "stats": self._tell_stats()}
        if self.caller.frames is not None:
            return await run_until_first({"splice": self._splice(self.worker, self.caller.frames), **watches})
        carries = {
            "caller to worker": self._carry_to_worker(self.worker),
            "worker to caller": self._carry_to_caller(self.worker),
        }
        return await run_until_first({**carries, **watches})

    async def _splice(self, worker: WorkerSocket, frames: Frames) -> Ending:
        with contextlib.suppress(SideLost):  # which the splice finds too
            await pump(worker.held(), self.caller, self.call.from_worker)
            await pump(self.caller.held(), worker, self.call.from_caller)
        first = await splice(frames, worker.frames, self.call.from_caller, self.call.from_worker)
        if first is worker.frames:
            return _worker_ending(worker)
        self.caller.note_close(frames.close_code or ABNORMAL)
        return await self._how_caller_ended()

    async def _carry_to_worker(self, worker: WorkerSocket) -> Ending:
        try:
            await pump(self.caller, worker, self.call.from_caller)
        except SideLost:
            # The worker's last words may be on their way to a slow caller: when they are through, the call ends.
            self.call.from_caller.waiting_since = None
            async for _ in self.caller:
                pass
        return await self._how_caller_ended()

    async def _carry_to_caller(self, worker: WorkerSocket) -> Ending:
        try:
            await pump(worker, self.caller, self.call.from_worker)
        except SideLost:
            return await self._how_caller_ended()
        return _worker_ending(worker)

    async def _how_caller_ended(self) -> Ending:
        """Return it when whoever reads from the caller has learnt it, which is now or very soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_NOTICE_SECONDS):
                await self.caller.has_closed.wait()
        fault = _FAULTS.get(self.caller.close_code or 0)
        return HUNG_UP if fault is None else Ending(EndReason.CALLER_FAULT, fault)

    async def _watch_clock(self, worker: WorkerSocket) -> Ending:
        """End the call at its limits, when a side is silent or stuck for too long, and when the gateway stops."""
        warn_before = warn_before_seconds(self.admitted.max_seconds, self.options)
        has_warned = False
        while True:
            left_seconds, ending = self._left()
            if left_seconds <= 0:
                return ending
            if not has_warned and left_seconds <= warn_before:
                has_warned = True
                wrap_up = protocol.wrap_up(seconds_left=round(left_seconds))
                with contextlib.suppress(SideLost, TimeoutError):
                    async with asyncio.timeout(1.0):
                        await worker.send(protocol.metadata(wrap_up))
            if stalled := self._stalled(time.monotonic()):
                return stalled
            next_mark = left_seconds if has_warned else left_seconds - warn_before
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, max(0.01, next_mark))):
                    return await self._wait_for_goodbye()

    def _left(self) -> tuple[float, Ending]:
        """Return in how many seconds the call ends, and why: its own limit, or its tenant's for the month."""
        by_clock = self.admitted.max_seconds - self.call.duration_ms / 1000
        by_budget = self.budget.lasts(time.monotonic())
        return (by_budget, SPENT) if by_budget < by_clock else (by_clock, TIME_LIMIT)

    def _stalled(self, at: float) -> Ending | None:
        call, options = self.call, self.options
        if call.is_fenced:
            return Ending(EndReason.GATEWAY_LOST, CloseCode.INTERNAL_ERROR)
        if _waits_since(call.from_worker.waiting_since, at) > options.stuck_seconds:
            return Ending(EndReason.CALLER_STUCK, CloseCode.TIMED_OUT)
        if _waits_since(call.from_caller.waiting_since, at) > options.stuck_seconds:
            return Ending(EndReason.WORKER_LOST, CloseCode.WORKER_LOST)
        if at - max(call.from_caller.last_arrived_at, call.ready or at) > options.caller_silence_seconds:
            return Ending(EndReason.CALLER_SILENT, CloseCode.TIMED_OUT)
        return None

    async def _tell_stats(self) -> Ending:
        """Tell the caller the call's figures after each turn, and now and then."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATS_SECONDS):
                    await self.call.turn_was_heard.wait()
            self.call.turn_was_heard.clear()
            try:
                await self.caller.send(self._stats_metadata())
            except SideLost:
                return await self._how_caller_ended()

    def _call_metadata(self) -> bytes:
        return protocol.metadata(
            {
                "type": "call",
                "call_id": str(self.call.call_id),
                "resume_token": self.admitted.resume_token,
                "max_seconds": self.admitted.max_seconds,
                "recorded": self.recorder is not None,
                "boot": self.call.session.boot if self.call.session else "",
            }
        )

    def _stats_metadata(self) -> bytes:
        turn = self.call.last_turn
        return protocol.metadata(
            {
                "type": "stats",
                "first_audio_ms": self.call.first_audio_ms,
                "turn_ms": turn.turn_ms if turn else None,
                "turns": self.call.turns_count,
                "cost_nano_dollars": self.call.cost_so_far(),
                "elapsed_ms": self.call.duration_ms,
                "boot": self.call.session.boot if self.call.session else "",
            }
        )


_WHY_NO_WORKER: dict[CloseCode, EndReason] = {
    CloseCode.WORKER_AT_CAPACITY: EndReason.WORKER_AT_CAPACITY,
    CloseCode.WORKER_TIMED_OUT: EndReason.WORKER_TIMED_OUT,
}


# With which codes a server closes by itself on a caller who breaks the WebSocket protocol. 1007: text that is no UTF-8.
_FAULTS = {
    1002: CloseCode.PROTOCOL_ERROR,
    1003: CloseCode.UNSUPPORTED_DATA,
    1007: CloseCode.UNSUPPORTED_DATA,
    1009: CloseCode.MESSAGE_TOO_BIG,
}


def _worker_ending(worker: WorkerSocket) -> Ending:
    # 1005: closed with no code, as stock servers do when they are done.
    if worker.close_code in (1000, 1005):
        return Ending(EndReason.AGENT_HUNG_UP, CloseCode.NORMAL)
    return Ending(EndReason.WORKER_LOST, CloseCode.WORKER_LOST)


def _waits_since(since: float | None, at: float) -> float:
    return 0.0 if since is None else at - since


def _read_request(scope: Mapping[str, Any], options: Options) -> Request | None:
    address = read_path(scope["path"])
    if address is None:
        return None
    headers = dict(scope["headers"])
    client = scope.get("client")
    caller_address = client[0] if client else ""
    if options.behind_proxy:
        # The proxy before us wrote the last one; those before it anybody may have.
        forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()
        caller_address = forwarded or caller_address
    return Request(
        kind=address[0],
        secret=address[1],
        origin=headers.get(b"origin", b"").decode("latin-1"),
        address=caller_address,
        region=region_of_request(scope.get("query_string", b""), headers, edge_header=options.edge_region_header),
        received_at=now(),
    )
