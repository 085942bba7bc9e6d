"""The calls of one gateway process: opened, taken over from another, closed, and handed over when it stops.

It knows the order of things. What may begin a call is voice.admission, how one goes is voice.conversation, what is
written is voice.calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import structlog
from opentelemetry import trace
from psycopg_pool import AsyncConnectionPool

from gpu_workers.protocol import CloseCode
from provisioning.backends import OpenBackends
from voice import live, metrics
from voice.admission import Admitted, Refused, Request, read_path
from voice.budgets import Budgets
from voice.caller_protocol import EXTENSION
from voice.calls import DATABASE_AWAY, close_call, hand_over_call, keep_writing
from voice.checkpoints import QuietCalls
from voice.conversation import Conversation
from voice.doors import Doors
from voice.endings import FAILED, STOPPED, Ending
from voice.held import HeldSession, now
from voice.ongoing import Fence, OngoingCall
from voice.options import Options
from voice.recording import Recordings
from voice.resuming import come_back
from voice.rounds import Rounds
from voice.sockets import CallerSocket, SideLost
from voice.whereabouts import region_of_request

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("warmline.gateway")

MOST_WRITES_AT_ONCE = 4
"""Of news, and of ends. The pool has ten connections, and callers who come must not wait until all else is written."""


class Gateway:
    """The calls of this process, and what they share."""

    def __init__(self, options: Options, pool: AsyncConnectionPool[Any], backends: OpenBackends) -> None:
        self.options = options
        self.pool = pool
        self.backends = backends
        self.quiet_calls = QuietCalls(pool, options)
        self.rounds = Rounds()
        self.doors = Doors(pool, options)
        self.recordings = Recordings(pool, options)
        self.budgets = Budgets(pool, options)
        self.is_draining = False
        self.calls: set[asyncio.Task[None]] = set()
        self.conversations: dict[uuid.UUID, Conversation] = {}
        """The calls that go on here, by their id."""
        self._few_news_at_once = asyncio.Semaphore(MOST_WRITES_AT_ONCE)
        self._few_ends_at_once = asyncio.Semaphore(MOST_WRITES_AT_ONCE)
        self.says_goodbye = False
        """Live calls are to end now, or to go on elsewhere."""

    async def take_call(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one WebSocket request: a call, a caller's return to one, or a refusal told by a close code."""
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
        await caller.left.wait()  # the call may last longer, over another connection

    def hear_takeover(self, call_id: uuid.UUID, epoch: int) -> None:
        """Another gateway, or this one, has raised a call's epoch."""
        conversation = self.conversations.get(call_id)
        if conversation is not None and conversation.call.epoch < epoch:
            conversation.call.fence(Fence.TAKEN)

    async def drain(self) -> None:
        """Take no new calls, let the live ones end within the time given, then hand over or say goodbye to the rest."""
        self.is_draining = True
        log.info("gateway.draining", calls=len(self.calls), seconds=self.options.drain_seconds)
        if self.calls:
            await asyncio.wait(self.calls, timeout=self.options.drain_seconds)
        self.says_goodbye = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.close_retry_seconds):
                await self._stop_a_few_at_a_time()
        for conversation in self.conversations.values():  # what is left: the database is away
            conversation.watch.stop()
        if self.calls:
            await asyncio.wait(self.calls, timeout=self.options.close_retry_seconds)
        await live.flush()
        log.info("gateway.drained", calls=len(self.calls))

    async def _stop_a_few_at_a_time(self) -> None:
        """End all calls or hand them over; each goes on until its turn comes."""
        few = asyncio.Semaphore(MOST_WRITES_AT_ONCE)

        async def stop(conversation: Conversation) -> None:
            async with few:
                conversation.watch.stop()
                await conversation.closed.wait()

        await asyncio.gather(*(stop(conversation) for conversation in list(self.conversations.values())))

    async def _serve(self, caller: CallerSocket, request: Request | None, began: float) -> None:
        try:
            with tracer.start_as_current_span("call"):
                if request is not None and request.kind == "resume_token":
                    await self._resume(caller, request)
                else:
                    await self._open(caller, request, began)
        except Refused as refusal:
            metrics.REFUSALS.labels(reason=refusal.close_code.name.lower()).inc()
            log.info("call.refused", reason=refusal.close_code.name.lower())
            await _dismiss(caller, refusal.close_code)
        except Exception:
            log.exception("call.failed")
            await _dismiss(caller, CloseCode.INTERNAL_ERROR)

    async def _open(self, caller: CallerSocket, request: Request | None, began: float) -> None:
        if self.is_draining:
            raise Refused(CloseCode.GOING_AWAY)
        if request is None:
            raise Refused(CloseCode.AGENT_UNKNOWN)
        with tracer.start_as_current_span("admit"):
            try:
                admitted = await self.doors.admit(request, callers=len(self.calls))
            except DATABASE_AWAY as problem:
                log.warning("database.away", problem=repr(problem))
                raise Refused(CloseCode.TRY_AGAIN_LATER) from problem
        call = OngoingCall(
            call_id=admitted.call_id,
            tenant_id=admitted.tenant_id,
            epoch=admitted.epoch,
            began=began,
            setup_ms=round((time.monotonic() - began) * 1000),
            can_resume=admitted.can_resume,
        )
        call.region = call.caller_region = admitted.region
        call.unused_places = list(admitted.places)
        log.info("call.opened", call_id=str(call.call_id), agent=admitted.agent_slug, channel=admitted.channel)
        live.announce(call.tenant_id, "opened", {"id": str(call.call_id), "agent": admitted.agent_slug})
        await self._conduct(caller, admitted, call)

    async def _resume(self, caller: CallerSocket, request: Request) -> None:
        """Give a caller back to the call that this gateway holds, or go on with one that another has held."""
        if self.is_draining:
            raise Refused(CloseCode.GOING_AWAY)
        try:
            self.doors.refuse_crowds(request, callers=0)  # who has a call here has room here
        except Refused as refusal:
            raise Refused(CloseCode.TRY_AGAIN_LATER) from refusal  # any other code would end a call that goes on
        with tracer.start_as_current_span("come back"):
            try:
                returned = await come_back(self.pool, request.secret, is_held=self._holds, options=self.options)
            except DATABASE_AWAY as problem:
                log.warning("database.away", problem=repr(problem))
                raise Refused(CloseCode.TRY_AGAIN_LATER) from problem
        if (taken := returned.taken_over) is not None:
            metrics.RESUMES.labels(gateway="another").inc()
            log.info("call.taken_over", call_id=str(taken.call.call_id), epoch=taken.call.epoch)
            await self._conduct(caller, taken.admitted, taken.call, again=taken.again)
            return
        conversation = self.conversations.get(returned.call_id)
        if conversation is None or not conversation.arrive(caller, returned.resume_token):
            # It has ended, or was handed over meanwhile: then another gateway takes the same token.
            raise Refused(CloseCode.GOING_AWAY if self.is_draining else CloseCode.CANNOT_RESUME)

    def _holds(self, call_id: uuid.UUID, epoch: int) -> bool:
        conversation = self.conversations.get(call_id)
        return conversation is not None and conversation.call.epoch == epoch

    async def _conduct(
        self, caller: CallerSocket, admitted: Admitted, call: OngoingCall, *, again: HeldSession | None = None
    ) -> None:
        """Hold an opened call, and close it however it ends, or leave it to another gateway."""
        trace.get_current_span().set_attributes(
            {"call.id": str(call.call_id), "tenant.id": str(call.tenant_id), "agent": admitted.agent_slug}
        )
        with (
            structlog.contextvars.bound_contextvars(call_id=str(call.call_id), tenant_id=str(call.tenant_id)),
            metrics.LIVE_CALLS.track_inprogress(),
        ):
            writing = asyncio.create_task(
                keep_writing(self.pool, call, self.options, self._few_news_at_once), name="write news"
            )
            self.quiet_calls.add(call)
            conversation = Conversation(
                self.pool,
                self.backends,
                caller,
                admitted,
                call,
                self.options,
                recordings=self.recordings,
                budget=self.budgets.join(
                    call.tenant_id, left_seconds=admitted.seconds_left, live_calls=admitted.live_calls
                ),
                again=again,
            )
            self.conversations[call.call_id] = conversation
            self.rounds.join(conversation, conversation.look)
            if self.says_goodbye:
                conversation.watch.stop()
            ending = FAILED
            try:
                ending = await conversation.hold()
            finally:
                self.rounds.leave(conversation)
                self.budgets.leave(call.tenant_id)
                self.quiet_calls.remove(call)
                writing.cancel()
                try:
                    await self._close(conversation, call, ending, writing)
                finally:
                    conversation.closed.set()
                    # Not sooner: who came back meanwhile would take the call over from the database.
                    if self.conversations.get(call.call_id) is conversation:
                        del self.conversations[call.call_id]

    async def _close(
        self, conversation: Conversation, call: OngoingCall, ending: Ending, writing: asyncio.Task[None]
    ) -> None:
        """Tell both sides, give the place back and write the end, side by side: none waits for another.

        Args:
            writing: what wrote the call's news, and is to stop: where the database does not answer that takes a while.
        """
        caller = conversation.caller
        if call.fenced is Fence.TAKEN:
            log.warning("call.was_taken_over")
        elif ending is STOPPED and call.can_resume and call.ready_ms is not None:
            await self._hand_over(call, writing)
        else:
            call.end()
            with tracer.start_as_current_span("close"):
                results = await asyncio.gather(
                    _dismiss(caller, ending.close_code),
                    conversation.release(),
                    self._write_end(call, ending, writing),
                    return_exceptions=True,
                )
            for problem in results:
                if isinstance(problem, BaseException):
                    log.error("call.closed_badly", exc_info=problem)
            metrics.observe_end(call, ending)
            log.info("call.ended", end_reason=ending.reason.value, duration_ms=call.duration_ms, turns=call.turns_count)
            return
        # Another gateway goes on with it, and waits for a moment where the worker's place is not free yet.
        await asyncio.gather(_dismiss(caller, ending.close_code), conversation.release(), return_exceptions=True)

    async def _write_end(self, call: OngoingCall, ending: Ending, writing: asyncio.Task[None]) -> None:
        await asyncio.wait([writing])  # what it could not write is the end's to write
        await close_call(self.pool, call, ending, self.options, self._few_ends_at_once)

    async def _hand_over(self, call: OngoingCall, writing: asyncio.Task[None]) -> None:
        call.lose_caller(time.monotonic())
        call.leaves_workers = True
        metrics.HANDED_OVER.inc()
        log.info("call.handed_over", duration_ms=call.duration_ms)
        await asyncio.wait([writing])
        await hand_over_call(self.pool, call, self.options)


async def _dismiss(caller: CallerSocket | None, code: CloseCode) -> None:
    if caller is not None:
        try:
            await caller.close(code)
        finally:
            caller.left.set()


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
        can_resume=parse_qs(scope.get("query_string", b"").decode("latin-1")).get("resume") == ["1"],
        region=region_of_request(scope.get("query_string", b""), headers, edge_header=options.edge_region_header),
        received_at=now(),
    )
