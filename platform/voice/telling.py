"""What the gateway tells a caller about the call, as metadata. docs/protocol.md lists it."""

from __future__ import annotations

from gpu_workers import protocol
from voice.ongoing import OngoingCall


def call(call: OngoingCall, *, max_seconds: int, resume_token: str, resume_seconds: float) -> bytes:
    """Return what is said right after the handshake, also to a caller who came back."""
    document = {
        "type": "call",
        "call_id": str(call.call_id),
        "max_seconds": max_seconds,
        "elapsed_ms": call.duration_ms,
        "resumes": call.resumes,
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
