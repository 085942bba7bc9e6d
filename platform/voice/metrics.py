"""Figures of this gateway process for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from voice.calls import Ending
    from voice.ongoing import OngoingCall

_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)

LIVE_CALLS = Gauge("warmline_gateway_live_calls", "Calls that this gateway holds now.")
REFUSALS = Counter("warmline_gateway_refusals_total", "Callers refused, by close code.", ["reason"])
REQUESTS_REFUSED = Counter(
    "warmline_gateway_requests_refused_total", "Connections turned away before they had asked, by reason.", ["reason"]
)
RECORDINGS_CUT_SHORT = Counter(
    "warmline_gateway_recordings_cut_short_total", "Recordings that stopped before their call did."
)
REFUSED_PLACES = Counter(
    "warmline_gateway_refused_places_total", "Places in which no session could be had.", ["region", "reason"]
)
CALLS = Counter("warmline_gateway_calls_total", "Calls ended, by reason and boot.", ["end_reason", "boot"])
MESSAGES = Counter("warmline_gateway_messages_total", "Messages passed on.", ["direction"])
BYTES = Counter("warmline_gateway_bytes_total", "Bytes passed on.", ["direction"])
READY = Histogram("warmline_gateway_ready_seconds", "From the request to the handshake.", ["boot"], buckets=_SECONDS)
FIRST_AUDIO = Histogram(
    "warmline_gateway_first_audio_seconds", "From the request to the first agent audio.", ["boot"], buckets=_SECONDS
)
TURN = Histogram("warmline_gateway_turn_seconds", "From the end of the caller's speech to the reply.", buckets=_SECONDS)


def observe_end(call: OngoingCall, ending: Ending) -> None:
    """Count an ended call."""
    boot = call.session.boot if call.session else ""
    CALLS.labels(end_reason=ending.reason.value, boot=boot).inc()
    for direction, counts in (("in", call.from_caller), ("out", call.from_worker)):
        MESSAGES.labels(direction=direction).inc(counts.messages)
        BYTES.labels(direction=direction).inc(counts.bytes)
    if call.ready_ms is not None:
        READY.labels(boot=boot).observe(call.ready_ms / 1000)
    if call.first_audio_ms is not None:
        FIRST_AUDIO.labels(boot=boot).observe(call.first_audio_ms / 1000)
    for turn in call.turns.values():
        if turn.turn_ms is not None:
            TURN.observe(turn.turn_ms / 1000)
