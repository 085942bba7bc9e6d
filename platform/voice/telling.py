"""What the gateway tells a caller about the call, as metadata. docs/protocol.md lists it."""

from __future__ import annotations

import asyncio

from gpu_workers import protocol
from voice.ongoing import OngoingCall
from voice.sockets import CallerSocket

STATS_SECONDS = 3.0
"""How often a caller is told figures while nothing happens."""
WORD_SECONDS = 1.0
"""How soon after a return it is noticed that the caller was heard."""


async def keep_telling(call: OngoingCall, caller: CallerSocket) -> None:
    """Tell the caller the call's figures after each turn, and now and then.

    Raises:
        SideLost: the caller has gone.
    """
    messages_before = call.from_caller.messages
    while True:
        # A token that was used is void as soon as the one after it has surely arrived: who has it speaks.
        waits_for_word = call.resumes > 0 and not call.spent_token_is_void
        try:
            async with asyncio.timeout(WORD_SECONDS if waits_for_word else STATS_SECONDS):
                await call.turn_was_heard.wait()
        except TimeoutError:
            call.settle_gap()
        call.turn_was_heard.clear()
        if waits_for_word and call.from_caller.messages > messages_before:
            call.spent_token_is_void = True
            call.news.set()
        gap_ms, call.clock.untold_gap_ms = call.clock.untold_gap_ms, None
        if gap_ms is not None:
            await caller.send(reconnected(gap_ms))
        await caller.send(stats(call))


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
