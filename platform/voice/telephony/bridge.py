"""One telephone call as a caller of the gateway: its leg on one side, a WebSocket with a ticket on the other.

It knows neither carriers nor the database: a Leg is the one, a LegRecord the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import time
import uuid
from typing import Any, Protocol

import structlog
from websockets.exceptions import InvalidHandshake, InvalidURI

from gpu_workers import protocol
from gpu_workers.protocol import CloseCode, Kind
from voice.frames import SideClosed
from voice.relay import run_until_first
from voice.telephony.legs import Key, Leg, LineReport, Sound, TransferRefused
from voice.telephony.ringing import ring
from voice.telephony.saying import LONGEST_SECONDS, say
from voice.telephony.transcoding import both_ways
from voice.times import DurationHistogram
from voice.worker_protocol import WorkerProtocol, connect

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 5.0
AGENT_SECONDS = 90.0
"""Until the agent can talk. The gateway has limits of its own, and says more."""
RECORD_SECONDS = 10.0
PLAYED_SECONDS = 10.0
"""How long the agent's last words may take to be heard."""
GOODBYE_SECONDS = 3.0
LATENESS_SECONDS = 0.1
"""How often a line on which nothing comes is looked at. Where something comes, that looks too."""


class EndKind(enum.StrEnum):
    """How a leg ended."""

    CALLER_HUNG_UP = "caller_hung_up"
    AGENT_HUNG_UP = "agent_hung_up"
    TRANSFERRED = "transferred"
    REFUSED = "refused"
    """The gateway took no call."""
    LOST = "lost"
    """The call ended by a fault, its time limit or a restart: the close code says which."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    kind: EndKind
    close_code: int = CloseCode.NORMAL
    transferred_to: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What the line was like. Durations are milliseconds."""

    codec: str
    packets_received: int
    packets_lost: int
    packets_late: int
    frames_concealed: int
    jitter_ms: float
    bridge_ms_p50: float | None
    bridge_ms_p99: float | None
    """From a piece of sound, of either side, until it is written to the other; without what filters and Opus hold."""
    report: LineReport | None = None
    """What the other side says of the line."""


class LegRecord(Protocol):
    """Where a leg's fate is written, and what the business wants of it."""

    async def began(self, call_id: uuid.UUID) -> None:
        """The gateway opened a call, and the agent can talk."""

    async def find_transfer(self) -> str | None:
        """Return the number that this call's hand-over goes to; None where nobody takes calls."""

    async def find_words(self, ending: Ending) -> bytes | None:
        """Return what the caller is told before being hung up on, as an engine would send it.

        None: nothing, or the carrier says it. A transfer is one that nobody took.
        """

    async def ended(self, ending: Ending, figures: Figures) -> None:
        """The leg is over, or about to be."""


class Bridge:
    def __init__(self, leg: Leg, address: str, record: LegRecord) -> None:
        """
        Args:
            address: where the gateway takes this call, a ticket in it.
        """
        self.call_id: uuid.UUID | None = None
        self._leg = leg
        self._address = address
        self._record = record
        self._arrivals, self._to_engine, self._from_engine = both_ways(leg.codec)
        self._delays = DurationHistogram()
        self._gateway: WorkerProtocol | None = None
        self._is_ready = False
        self._hands_over = False
        self._has_left = asyncio.Event()
        """Set when the telephone's side is over."""
        self._ringing: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None

    @property
    def figures(self) -> Figures:
        arrivals = self._arrivals
        return Figures(
            codec=self._leg.codec,
            packets_received=arrivals.received,
            packets_lost=arrivals.lost,
            packets_late=arrivals.late,
            frames_concealed=arrivals.concealed,
            jitter_ms=arrivals.jitter_seconds * 1000,
            bridge_ms_p50=self._delays.percentile(0.5),
            bridge_ms_p99=self._delays.percentile(0.99),
            report=self._leg.report,
        )

    async def hold(self) -> Ending:
        """Hold the call until one side ends it; both have ended when this returns."""
        # The telephone is listened to until the very end: it tells when the agent's last words were heard.
        listening = asyncio.create_task(self._listen(), name="listen to the telephone")
        self._ringing = asyncio.create_task(ring(self._leg), name="ring")
        try:
            ending = await self._conduct()
            return await self._end(ending)
        except asyncio.CancelledError:
            # The process stops: what is known is written all the same.
            await asyncio.shield(self._end(Ending(EndKind.LOST, CloseCode.GOING_AWAY)))
            raise
        finally:
            self._ringing.cancel()
            listening.cancel()
            await asyncio.gather(self._ringing, listening, return_exceptions=True)

    async def _conduct(self) -> Ending:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                gateway = self._gateway = await connect(self._address, {})
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as problem:
            # An address that is none has the ticket in it.
            log.error("bridge.no_gateway", problem="no address" if isinstance(problem, InvalidURI) else repr(problem))
            return Ending(EndKind.REFUSED, CloseCode.TRY_AGAIN_LATER)
        try:
            return await run_until_first(
                {
                    "telephone": self._wait_for_hang_up(),
                    "gateway": self._carry_to_leg(gateway),
                    "lateness": self._watch_lateness(),
                    "agent": self._wait_for_agent(),
                }
            )
        except Exception:
            log.exception("bridge.failed", call_id=str(self.call_id))
            return Ending(EndKind.LOST, CloseCode.INTERNAL_ERROR)
        finally:
            self._gateway = None
            await _say_goodbye(gateway)

    async def _end(self, ending: Ending) -> Ending:
        """Let the agent's words be heard, write how it ended, then end the leg: carriers ask for what is written."""
        if self._is_ready and not self._has_left.is_set() and ending.close_code != CloseCode.GOING_AWAY:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLAYED_SECONDS):
                    await run_until_first(
                        {"played": self._leg.wait_until_played(), "left": self._wait_for_hang_up()}  # type: ignore[dict-item]
                    )
        if self._beginning is not None:
            await self._beginning
        if ending.kind is EndKind.AGENT_HUNG_UP and self._hands_over:
            ending = await self._with_transfer(ending)
        await self._write(self._record.ended(ending, self.figures))
        if ending.kind is EndKind.TRANSFERRED:
            try:
                await self._leg.transfer(ending.transferred_to)
                return ending
            except TransferRefused as problem:
                log.warning("bridge.transfer_refused", call_id=str(self.call_id), problem=str(problem))
                await self._say_after(ending)
                ending = dataclasses.replace(ending, kind=EndKind.AGENT_HUNG_UP, transferred_to="")
                await self._write(self._record.ended(ending, self.figures))
        else:
            await self._say_after(ending)
        await self._leg.hang_up()
        return ending

    async def _say_after(self, ending: Ending) -> None:
        """Tell the caller in words what happened, where the record has words for it and there is time."""
        if self._has_left.is_set() or ending.close_code == CloseCode.GOING_AWAY:
            return
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                if (sound := await self._record.find_words(ending)) is not None:
                    if self._ringing is not None:
                        self._ringing.cancel()
                    await self._leg.clear()
                    await run_until_first({"words": say(self._leg, sound), "left": self._wait_for_hang_up()})  # type: ignore[dict-item]
        except Exception:
            log.exception("bridge.no_words", call_id=str(self.call_id))

    # --- telephone to gateway --------------------------------------------------------------------------------------
    async def _listen(self) -> None:
        try:
            async for event in self._leg:
                match event:
                    case Sound():
                        await self._hear_sound(event)
                    case Key(digit=digit) if digit in protocol.KEYPAD:
                        await self._send(protocol.keys(digit))
        except Exception:
            log.exception("bridge.deaf", call_id=str(self.call_id))
        finally:
            self._has_left.set()

    async def _hear_sound(self, sound: Sound) -> None:
        arrivals = self._arrivals
        late = arrivals.overdue(sound.at)
        frames = arrivals.push(sound.position, sound.piece, sound.at, sequence=sound.sequence)
        await self._send_frames([*late, *frames])
        self._delays.add((time.monotonic() - sound.at) * 1000)

    async def _watch_lateness(self) -> Ending:
        while True:
            await asyncio.sleep(LATENESS_SECONDS)
            await self._send_frames(self._arrivals.overdue(time.monotonic()))

    async def _send_frames(self, frames: list[Any]) -> None:
        # What is said before the agent can hear it would be answered long after.
        if self._is_ready:
            for frame in frames:
                await self._send(protocol.audio(self._to_engine(frame)))

    async def _send(self, message: bytes) -> None:
        if self._is_ready and self._gateway is not None:
            with contextlib.suppress(SideClosed):  # whoever reads from it finds that too
                await self._gateway.send(message)

    async def _wait_for_hang_up(self) -> Ending:
        await self._has_left.wait()
        return Ending(EndKind.CALLER_HUNG_UP)

    # --- gateway to telephone --------------------------------------------------------------------------------------
    async def _carry_to_leg(self, gateway: WorkerProtocol) -> Ending:
        while (message := await gateway.receive()) is not None:
            at = time.monotonic()
            if not isinstance(message, bytes) or not message:
                continue
            match message[0]:
                case Kind.AUDIO:
                    for frame in self._from_engine(message[1:]):
                        await self._leg.play(frame)
                    self._delays.add((time.monotonic() - at) * 1000)
                case Kind.HANDSHAKE:
                    await self._become_ready()
                case Kind.METADATA:
                    await self._hear(protocol.read_metadata(message))
        return self._gateway_ending(gateway)

    async def _become_ready(self) -> None:
        if self._ringing is not None:
            self._ringing.cancel()
        await self._leg.clear()
        self._is_ready = True

    async def _hear(self, document: dict[str, Any]) -> None:
        match document["type"]:
            case "call":
                self.call_id = uuid.UUID(document["call_id"])
                # Beside the talking: the greeting does not wait for it.
                self._beginning = asyncio.create_task(self._write(self._record.began(self.call_id)), name="began")
            case "transcript" if document.get("role") == "agent" and document.get("interrupted"):
                await self._leg.clear()
            case "tool" if document.get("name") == "hand_off" and document.get("ok"):
                self._hands_over = True

    async def _wait_for_agent(self) -> Ending:
        await asyncio.sleep(AGENT_SECONDS)
        if not self._is_ready:
            return Ending(EndKind.REFUSED, CloseCode.WORKER_TIMED_OUT)
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    # --- the end ---------------------------------------------------------------------------------------------------
    def _gateway_ending(self, gateway: WorkerProtocol) -> Ending:
        code = gateway.close_code or CloseCode.INTERNAL_ERROR
        if code == CloseCode.NORMAL:
            return Ending(EndKind.AGENT_HUNG_UP)
        return Ending(EndKind.LOST if self._is_ready else EndKind.REFUSED, code)

    async def _with_transfer(self, ending: Ending) -> Ending:
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                number = await self._record.find_transfer()
        except Exception:
            log.exception("bridge.no_transfer", call_id=str(self.call_id))
            return ending
        return dataclasses.replace(ending, kind=EndKind.TRANSFERRED, transferred_to=number) if number else ending

    async def _write(self, writing: Any) -> None:
        """Wait for the record, for some time: a call does not fail for it."""
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                await writing
        except Exception:
            log.exception("bridge.not_written", call_id=str(self.call_id))


async def _say_goodbye(gateway: WorkerProtocol) -> None:
    gateway.say_goodbye(CloseCode.NORMAL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            await gateway.wait_closed()
    gateway.transport.close()
