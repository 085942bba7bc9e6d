"""What the gateway tells a caller about the call, as metadata. docs/protocol.md lists it."""

from __future__ import annotations

import asyncio
import time

from gpu_workers import protocol
from voice.ongoing import OngoingCall
from voice.sockets import CallerSocket

STATS_SECONDS = 3.0
"""How often a caller is told figures while nothing happens."""


class Teller:
    """Tells one caller the call's figures after each turn, and now and then. Somebody has to `look` once a second."""

    def __init__(self, call: OngoingCall, caller: CallerSocket) -> None:
        self._call = call
        self._caller = caller
        self._messages_before = call.from_caller.messages
        self._told = time.monotonic()
        call.on_turn = self._tell_soon

    def look(self, at: float) -> None:
        call = self._call
        # A token that was used is void as soon as the one after it has surely arrived: who has it speaks.
        if call.resumes and not call.spent_token_is_void and call.from_caller.messages > self._messages_before:
            call.spent_token_is_void = True
            call.news.set()
        elif at - self._told < STATS_SECONDS:
            return
        call.settle_gap()
        self._tell()

    def stop(self) -> None:
        self._call.on_turn = None

    def _tell_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._tell)  # the worker's messages that came together go first

    def _tell(self) -> None:
        """Tell what there is room for; of figures the next ones will do, of a gap there are no others."""
        call, clock = self._call, self._call.clock
        self._told = time.monotonic()
        if clock.untold_gap_ms is not None and self._caller.offer(reconnected(clock.untold_gap_ms)):
            clock.untold_gap_ms = None
        self._caller.offer(stats(call))


def call(call: OngoingCall, *, max_seconds: int, resume_token: str, resume_seconds: float, is_recorded: bool) -> bytes:
    """Return what is said right after the handshake, also to a caller who came back."""
    document = {
        "type": "call",
        "call_id": str(call.call_id),
        "max_seconds": max_seconds,
        "elapsed_ms": call.duration_ms,
        "resumes": call.resumes,
        "recorded": is_recorded,
        "boot": _boot(call),
    }
    if resume_token:
        document |= {"resume_token": resume_token, "resume_seconds": resume_seconds}
    return protocol.metadata(document)


def stats(call: OngoingCall) -> bytes:
    turn = call.last_turn
    return protocol.metadata(
        {
            "type": "stats",
            "first_audio_ms": call.first_audio_ms,
            "turn_ms": turn.turn_ms if turn else None,
            "turns": call.turns_count,
            "cost_nano_dollars": call.cost_so_far(),
            "elapsed_ms": call.duration_ms,
            "boot": _boot(call),
        }
    )


def reconnecting() -> bytes:
    """The agent was lost, and another is on its way."""
    return protocol.metadata({"type": "reconnecting"})


def reconnected(gap_ms: int) -> bytes:
    """The agent is heard again, after so long."""
    return protocol.metadata({"type": "reconnected", "gap_ms": gap_ms})


def _boot(call: OngoingCall) -> str:
    return call.session.boot if call.session else ""
