"""Calls: the list with its filters, and one call with all that is known of it. Both follow live calls by themselves."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django import forms
from django.http import Http404, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from agents.models import Agent
from content.models import Recording
from provisioning.models import CostEntry
from tenants.access import TenantRequest, tenant_access
from tenants.models import Role
from voice.models import Call, EndReason
from voice.querysets import SLOW_READY_MS, SLOW_TURN_MS, CallQuerySet
from voice.records import call_record, find_call
from web.charts import Part, Step
from web.fragments import page_or_fragment
from web.paging import page_of
from web.views.overview import PART_TONES

TURN_PARTS = (
    ("end_of_turn", "End of turn", "s6"),
    ("stt", "Speech to text", "s3"),
    ("llm_ttft", "Thinking", "s4"),
    ("tts_ttfb", "Voice", "s1"),
    ("other", "Remainder", "quiet"),
)
BOOT_NOTES = {
    "warm": "a container was waiting",
    "restored": "restored from a snapshot",
    "cold": "a cold start",
}


class CallFilter(forms.Form):
    agent = forms.ModelChoiceField(Agent.objects.none(), required=False, to_field_name="slug", empty_label="All agents")
    outcome = forms.ChoiceField(
        required=False,
        choices=[("", "Any outcome"), ("live", "Live now"), ("well", "Ended well"), ("badly", "Went wrong")]
        + [("Why it ended", EndReason.choices)],  # type: ignore[list-item]
    )
    channel = forms.ChoiceField(required=False, choices=[("", "Any channel"), *Call.Channel.choices])
    boot = forms.ChoiceField(
        required=False,
        label="Container was",
        choices=[("", "Any"), ("warm", "Warm"), ("restored", "Restored"), ("cold", "Cold")],
    )
    since = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}))
    slow = forms.BooleanField(
        required=False, label=f"Slow: ready over {SLOW_READY_MS} ms, or a turn over {SLOW_TURN_MS / 1000:.1f} s"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agent"].queryset = Agent.objects.all()  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        chosen = super().clean() or {}
        if chosen.get("since") and chosen.get("until") and chosen["since"] > chosen["until"]:
            self.add_error("until", "This is before the first day.")
        return chosen

    @property
    def is_used(self) -> bool:
        return any(self.cleaned_data.values())

    def chosen(self) -> CallQuerySet:
        """Return the calls that the filter lets through. A part that is not understood is left out, and marked."""
        calls: CallQuerySet = Call.objects.select_related("agent")
        chosen = self.cleaned_data
        if chosen.get("agent"):
            calls = calls.of_agent(chosen["agent"])
        match chosen.get("outcome"):
            case "live":
                calls = calls.live()
            case "well":
                calls = calls.ended_well()
            case "badly":
                calls = calls.ended_badly()
            case reason if reason:
                calls = calls.filter(end_reason=reason)
        for name in ("channel", "boot"):
            if chosen.get(name):
                calls = calls.filter(**{name: chosen[name]})
        if chosen.get("since"):
            calls = calls.filter(started_at__gte=_midnight(chosen["since"]))
        if chosen.get("until"):
            calls = calls.filter(started_at__lt=_midnight(chosen["until"] + datetime.timedelta(days=1)))
        if chosen.get("slow"):
            calls = calls.slow()
        return calls


def _midnight(date: datetime.date) -> datetime.datetime:
    return timezone.make_aware(datetime.datetime.combine(date, datetime.time()))


@tenant_access(Role.VIEWER)
@require_GET
def calls(request: TenantRequest) -> HttpResponse:
    form = CallFilter(request.GET)
    form.is_valid()
    context = {"form": form, "page": page_of(form.chosen(), request)}
    return page_or_fragment(request, "web/calls/calls.html", "rows", context)


@tenant_access(Role.VIEWER)
@require_GET
def call(request: TenantRequest, call_id: uuid.UUID) -> HttpResponse:
    try:
        found = find_call(call_id)
    except Call.DoesNotExist as problem:
        raise Http404("No such call.") from problem
    record = call_record(found)
    context = {
        "call": found,
        "record": record,
        "steps": _steps(record),
        "exchanges": _exchanges(record),
        "turn_legend": TURN_PARTS,
        "cost_parts": _cost_parts(record),
        "cost_note": "as billed" if _is_billed(record) else "provisional",
    }
    return page_or_fragment(request, "web/calls/call.html", "call", context)


def _steps(record: dict[str, Any]) -> list[Step]:
    """Return the waterfall from the request to the first audio. A remainder is shown as a step of its own."""
    steps, at_ms = [], 0
    for name, tone, note in (
        ("setup_ms", "s6", "admitted: ticket, plan, free line"),
        ("reserve_ms", record["boot"] or "s4", _reserve_note(record)),
        ("connect_ms", "s3", "to the worker's handshake"),
    ):
        if record[name] is not None:
            steps.append(Step(name.removesuffix("_ms").capitalize(), at_ms, record[name], tone, note))
            at_ms += record[name]
    ready_ms, first_audio_ms = record["ready_ms"], record["first_audio_ms"]
    if ready_ms is None:
        return steps
    if ready_ms > at_ms:
        steps.append(Step("Remainder", at_ms, ready_ms - at_ms, "quiet", "to the caller's handshake"))
    steps.append(Step("Ready", 0, ready_ms, "s5", "the caller can talk", is_total=True))
    if first_audio_ms is not None:
        if first_audio_ms > ready_ms:
            steps.append(Step("Greeting", ready_ms, first_audio_ms - ready_ms, "s1", "its first sound is made"))
        steps.append(Step("First audio", 0, first_audio_ms, "ember", "the agent is heard", is_total=True))
    return steps


def _reserve_note(record: dict[str, Any]) -> str:
    note = BOOT_NOTES.get(record["boot"], "a place on a container")
    if record["boot"] in ("restored", "cold") and record["boot_ms"] is not None:
        note += f", started in {record['boot_ms']:,} ms"
    return note


def _exchanges(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the turns in order, each with what was said, the tools that ran, and its parts for a bar."""
    times = {turn["index"]: turn for turn in record["turns"]}
    indexes = {line["turn"] for line in record["transcript"]} | set(times) | {run["turn"] for run in record["tools"]}
    lines = _lines(record)
    longest_ms = max((turn["turn_ms"] or 0 for turn in record["turns"]), default=0)
    return [
        {
            "index": index,
            "turn": times.get(index),
            "lines": [line for line in lines if line["turn"] == index],
            "tools": [run for run in record["tools"] if run["turn"] == index],
            "parts": _turn_parts(times.get(index)),
            "longest_ms": longest_ms,
            "is_slow": ((times.get(index) or {}).get("turn_ms") or 0) > SLOW_TURN_MS,
        }
        for index in sorted(indexes)
    ]


SPEAKING_MS_PER_WORD = 400
"""Slower than most people speak: whoever wants to hear a line is to hear its beginning."""


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines, each with where in the recording it begins to be heard; None where there is none to hear.

    Of a reply its first sound's time is known. A caller's words have the time at which they were known, after they were
    spoken: they began before that by as long as saying them takes, and not before the line before them.
    """
    recording = record["recording"]
    if recording is None or recording["state"] != Recording.State.READY:
        return [{**line, "seek_seconds": None} for line in record["transcript"]]
    replies = {turn["index"]: turn["at_ms"] for turn in record["turns"]}
    lines, before_ms = [], 0
    for line in record["transcript"]:
        spoken_ms = SPEAKING_MS_PER_WORD * (len(line["text"].split()) + 2)
        begins_ms = max(before_ms, line["at_ms"] - spoken_ms)
        if line["role"] == "agent":
            begins_ms = replies.get(line["turn"], begins_ms)
        before_ms = begins_ms
        lines.append({**line, "seek_seconds": max(0, begins_ms - recording["begins_at_ms"]) / 1000})
    return lines


def _turn_parts(turn: dict[str, Any] | None) -> list[Part]:
    if turn is None or turn["turn_ms"] is None:
        return []
    parts = turn["parts_ms"]
    return [Part(label, parts[name], tone) for name, label, tone in TURN_PARTS if parts.get(name)]


def _cost_parts(record: dict[str, Any]) -> list[Part]:
    labels = dict(CostEntry.Part.choices)
    return [
        Part(labels[entry["part"]], entry["nano_dollars"], PART_TONES.get(entry["part"], "s6"), _arithmetic(entry))
        for entry in record["cost"]["parts"]
    ]


def _is_billed(record: dict[str, Any]) -> bool:
    return any(entry["source"] == CostEntry.Source.PROVIDER for entry in record["cost"]["parts"])


def _arithmetic(entry: dict[str, Any]) -> str:
    """Say how long at what rate. Where that is not the result, calls shared the container."""
    if entry["source"] == CostEntry.Source.PROVIDER:
        billed = "more" if entry["nano_dollars"] > 0 else "less"
        return f"billed {billed} than estimated: {abs(entry['nano_dollars']):,} nano-dollars"
    milliseconds, rate, result = entry["milliseconds"], entry["rate_nano_dollars_per_second"], entry["nano_dollars"]
    if milliseconds is None or rate is None:
        return f"{result:,} nano-dollars"
    is_whole = abs(milliseconds * rate - result * 1000) <= 1000
    said = f"{milliseconds / 1000:,.3f} s at {rate:,} nano-dollars a second"
    return f"{said}{'' if is_whole else ', shared'}: {result:,} nano-dollars"
