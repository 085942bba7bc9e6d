"""The legs of one telephony process: streams taken, bridged, told of their end from elsewhere, and let end in time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import Callable
from typing import Self
from urllib.parse import parse_qsl

import structlog
from channels.layers import get_channel_layer
from django.conf import settings
from prometheus_client import Counter, Gauge
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from config import env
from voice.telephony.bridge import Bridge, Ending
from voice.telephony.carriers import CARRIERS
from voice.telephony.dialects import Dialect
from voice.telephony.ending import LEGS_GROUP
from voice.telephony.legs import Leg
from voice.telephony.records import StoredLeg
from voice.telephony.routing import read_leg_token
from voice.telephony.streams import AnotherCodec, NotAStream, StreamLeg, started
from voice.tickets import call_address

log = structlog.get_logger(__name__)

LEGS = Gauge("warmline_telephone_legs", "Telephone calls on this process.")
ENDED = Counter("warmline_telephone_legs_ended_total", "Telephone calls that ended, by how.", ["kind"])
REFUSED = Counter("warmline_telephone_refused_total", "Streams that were not taken, by why.", ["reason"])
LISTEN_AGAIN_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Of one process, from the environment: TELEPHONY_NAME."""

    max_calls: int
    """Calls at a time. docs/telephony.md says what a core carries."""
    drain_seconds: float
    """How long calls may go on when the process is stopped."""

    @classmethod
    def from_environment(cls) -> Self:
        return cls(
            max_calls=env.integer("TELEPHONY_MAX_CALLS", 24),
            drain_seconds=env.decimal("TELEPHONY_DRAIN_SECONDS", 30.0),
        )


class Telephony:
    """What carriers' legs share. A SIP user agent beside the streams hands its dialogs to `hold` too."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.is_draining = False
        self._connections = 0
        self._claimed: set[uuid.UUID] = set()
        """Legs that are held, or are about to be."""
        self._held: dict[uuid.UUID, tuple[Leg, asyncio.Task[Ending]]] = {}
        self.on_dial: Callable[[uuid.UUID, uuid.UUID], None] = lambda tenant_id, leg_id: None
        """Is told of legs that wait to be dialled from here."""

    @property
    def calls(self) -> int:
        return len(self._held)

    async def take_stream(self, connection: ServerConnection) -> None:
        """Serve one WebSocket of a carrier's until its call is over."""
        path, _, query = (connection.request.path if connection.request else "").partition("?")
        hosted = CARRIERS.get(path.strip("/"))
        # Strangers who open streams and say nothing must not keep callers out, nor without end.
        is_full = self.calls >= self.limits.max_calls or self._connections >= 4 * self.limits.max_calls
        if hosted is None or self.is_draining or is_full:
            reason = "unknown" if hosted is None else "draining" if self.is_draining else "full"
            REFUSED.labels(reason).inc()
            await connection.close(1013 if hosted else 1008, reason)
            return
        self._connections += 1
        try:
            await self._hold_stream(connection, hosted.dialect, dict(parse_qsl(query)))
        finally:
            self._connections -= 1

    async def _hold_stream(self, connection: ServerConnection, dialect: Dialect, parameters: dict[str, str]) -> None:
        try:
            start = await started(connection, dialect)
        except AnotherCodec as problem:
            await _refuse_codec(problem, problem.parameters if dialect.parameters else parameters)
            return
        except (NotAStream, ConnectionClosed) as problem:
            REFUSED.labels("no_stream").inc()
            log.warning("stream.none", problem=str(problem)[:200])
            return
        if dialect.parameters:
            parameters = start.parameters
        found = read_leg_token(parameters.get("leg"))
        ticket = parameters.get("ticket", "")
        if found is None or not ticket:
            REFUSED.labels("stranger").inc()
            log.warning("stream.stranger", call=start.call_ref[:64])
            return
        await self.hold(StreamLeg(connection, start, dialect), StoredLeg(*found), ticket)

    async def hold(self, leg: Leg, record: StoredLeg, ticket: str) -> Ending | None:
        """Bridge an answered leg to its call and return how it ended; None where it is known to be over."""
        if record.leg_id not in self._claimed:
            self._claimed.add(record.leg_id)
            try:
                if await record.answered():
                    return await self._hold_claimed(leg, record, ticket)
            finally:
                self._claimed.discard(record.leg_id)
        REFUSED.labels("used").inc()
        await leg.hang_up()
        return None

    async def _hold_claimed(self, leg: Leg, record: StoredLeg, ticket: str) -> Ending:
        bridge = Bridge(leg, call_address(settings.TELEPHONY_GATEWAY_URL, ticket), record)
        task = asyncio.create_task(bridge.hold(), name="telephone call")
        self._held[record.leg_id] = leg, task
        try:
            with LEGS.track_inprogress(), structlog.contextvars.bound_contextvars(leg_id=str(record.leg_id)):
                log.info("leg.began")
                ending = await task
        except asyncio.CancelledError:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            raise
        finally:
            del self._held[record.leg_id]
        ENDED.labels(ending.kind.value).inc()
        log.info("leg.ended", leg_id=str(record.leg_id), call_id=str(bridge.call_id), kind=ending.kind.value)
        return ending

    async def listen(self) -> None:
        """Hear, for ever, of legs to dial, and of those that are over: some end without a goodbye on their stream."""
        layer = get_channel_layer()
        while True:
            try:
                channel = await layer.new_channel()
                await layer.group_add(LEGS_GROUP, channel)
                while True:
                    message = await layer.receive(channel)
                    leg_id = uuid.UUID(message["leg"])
                    if message["type"] == "leg.dial":
                        self.on_dial(uuid.UUID(message["tenant"]), leg_id)
                    elif (held := self._held.get(leg_id)) is not None:
                        await held[0].hang_up()
            except Exception:  # streams end by themselves too, only later
                log.exception("telephony.deaf")
                await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def drain(self) -> None:
        """Take no new calls, let the live ones end within the time given, then end the rest."""
        self.is_draining = True
        tasks = [task for _, task in self._held.values()]
        log.info("telephony.draining", calls=len(tasks), seconds=self.limits.drain_seconds)
        if tasks:
            await asyncio.wait(tasks, timeout=self.limits.drain_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse_codec(problem: AnotherCodec, parameters: dict[str, str]) -> None:
    """Write why a leg is not taken: its caller is told, and lines are not said to be busy that are free."""
    found = read_leg_token(parameters.get("leg"))
    REFUSED.labels("codec" if found else "stranger").inc()
    log.warning("stream.codec", problem=str(problem)[:200], leg_id=str(found[1]) if found else None)
    if found is not None:
        await StoredLeg(*found).refused(problem.codec)
