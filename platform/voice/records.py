"""A call as one document: what `manage.py call` prints, and pages show."""

from __future__ import annotations

import uuid
from typing import Any

from content.models import Recording, ToolRun, TranscriptLine
from voice.charges import charges_of
from voice.models import Call


def call_record(call: Call) -> dict[str, Any]:
    """Return a call of the entered tenant with its turns, sessions, tools and cost. JSON values only.

    Times are whole milliseconds, costs whole nano-dollars.
    """
    lines = list(TranscriptLine.objects.of_call(call.pk).order_by("position"))
    charges = charges_of(call.pk)
    return {
        **call_summary(call),
        "gateway_ms": {"p50": _rounded(call.gateway_ms_p50), "p99": _rounded(call.gateway_ms_p99)},
        "turns": [_turn(turn, lines) for turn in call.turns.order_by("index")],
        "transcript": [
            {
                "turn": line.turn_index,
                "role": line.role,
                "text": line.text,
                "interrupted": line.interrupted,
                "at_ms": line.at_ms,
            }
            for line in lines
        ],
        "recording": _recording(call),
        "tools": [_tool_run(run) for run in ToolRun.objects.of_call(call.pk)],
        "sessions": [
            {
                "role": session.role,
                "region": session.region,
                "container": session.container,
                "boot": session.boot,
                "boot_ms": session.boot_ms,
                "reserve_ms": session.reserve_ms,
                "connect_ms": session.connect_ms,
                "active_ms": session.active_ms,
                "why_ended": session.why_ended,
            }
            for session in call.sessions.order_by("granted_at")
        ],
        "refused_places": call.refused_places,
        "audio": {
            "in": {"messages": call.audio_in_messages, "bytes": call.audio_in_bytes},
            "out": {"messages": call.audio_out_messages, "bytes": call.audio_out_bytes},
            "discarded": call.discarded_messages,
        },
        "cost": {"nano_dollars": sum(charge["nano_dollars"] for charge in charges), "parts": charges},
    }


def call_summary(call: Call) -> dict[str, Any]:
    """Return what a call's own row says of it. Its cost may still grow by shares of what was kept warm."""
    return {
        "id": str(call.pk),
        "agent": call.agent.slug,
        "version": call.version.number,
        "engine": call.version.engine,
        "channel": call.channel,
        "status": call.status,
        "end_reason": call.end_reason,
        "close_code": call.close_code,
        "region": call.region,
        "caller_region": call.caller_region,
        "started_at": _iso(call.started_at),
        "ended_at": _iso(call.ended_at),
        **{
            name: getattr(call, name)
            for name in ("setup_ms", "reserve_ms", "connect_ms", "ready_ms", "first_audio_ms", "duration_ms")
        },
        "boot": call.boot,
        "boot_ms": call.boot_ms,
        "cost": {"nano_dollars": call.cost_nano_dollars},
    }


def find_call(call_id: uuid.UUID | str) -> Call:
    """Return a call of the entered tenant with its agent and version.

    Raises:
        Call.DoesNotExist
    """
    return Call.objects.select_related("agent", "version").get(pk=call_id)


def _turn(turn: Any, lines: list[TranscriptLine]) -> dict[str, Any]:
    return {
        "index": turn.index,
        "at_ms": turn.at_ms,
        "caller": _said(lines, turn.index, "caller"),
        "agent": _said(lines, turn.index, "agent"),
        "turn_ms": turn.turn_ms,
        "parts_ms": {
            "end_of_turn": turn.end_of_turn_ms,
            "stt": turn.stt_ms,
            "llm_ttft": turn.llm_ttft_ms,
            "tts_ttfb": turn.tts_ttfb_ms,
            "other": turn.other_ms,
        },
    }


def _said(lines: list[TranscriptLine], turn_index: int, role: str) -> str:
    return " ".join(str(line.text) for line in lines if line.turn_index == turn_index and line.role == role)


def _recording(call: Call) -> dict[str, Any] | None:
    """Return how a call's recording stands; None where there never was one."""
    found = Recording.objects.of_call(call.pk).first()
    if found is None:
        return None
    return {
        "state": found.state,
        "duration_ms": found.duration_ms,
        "begins_at_ms": found.begins_at_ms,
        "problem": found.problem,
    }


def _tool_run(run: ToolRun) -> dict[str, Any]:
    return {
        "turn": run.turn_index,
        "name": run.name,
        "arguments": run.arguments,
        "result": run.result,
        "ok": run.ok,
        "error_code": run.error_code,
        "duration_ms": run.duration_ms,
    }


def _iso(at: Any) -> str | None:
    return None if at is None else at.isoformat()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
