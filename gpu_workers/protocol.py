"""The messages between caller, gateway and worker: Kyutai's Moshi protocol, and the JSON that Warmline adds to it.

Standard library only: the gateway, every worker and the tests read the wire through this module.
It knows nothing of sockets, audio or Django.

Source of the binary part: the Moshi protocol (`moshi.server`, `rust/protocol.md` of kyutai-labs/moshi).
"""

from __future__ import annotations

import dataclasses
import enum
import json
import struct
from typing import Any

PROTOCOL_VERSION = 0
SAMPLE_RATE_HZ = 24_000
"""Audio messages carry Ogg Opus of 24 kHz mono."""

MAX_MESSAGE_BYTES = 1 << 20
"""Longest message either side may send; a longer one ends the call with `CloseCode.MESSAGE_TOO_BIG`."""


class Kind(enum.IntEnum):
    """First byte of every message."""

    HANDSHAKE = 0
    AUDIO = 1
    TEXT = 2
    CONTROL = 3
    METADATA = 4
    ERROR = 5
    PING = 6


CALLER_KINDS = frozenset({Kind.AUDIO, Kind.CONTROL, Kind.PING})
"""Kinds that a caller may send. Metadata towards a worker comes from the gateway alone."""


class Control(enum.IntEnum):
    """Second byte of a control message."""

    START = 0
    END_OF_TURN = 1
    PAUSE = 2
    RESTART = 3


class CloseCode(enum.IntEnum):
    """WebSocket close codes. 4000 to 4999 are ours; `docs/protocol.md` prints this table."""

    code: int
    reason: str
    resumable: bool

    def __new__(cls, code: int, reason: str, resumable: bool = False) -> CloseCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.reason = reason
        member.resumable = resumable
        return member

    NORMAL = 1000, "The call has ended."
    GOING_AWAY = 1001, "The server is restarting: connect again.", True
    PROTOCOL_ERROR = 1002, "A message was not of the protocol's form."
    UNSUPPORTED_DATA = 1003, "Messages must be binary."
    MESSAGE_TOO_BIG = 1009, "A message was longer than the limit."
    INTERNAL_ERROR = 1011, "The server failed: the call was recorded and can be tried again."
    TRY_AGAIN_LATER = 1013, "No place is free at the moment: try again later."

    TICKET_UNKNOWN = 4401, "This ticket is not known, has expired, or was used before."
    TENANT_SUSPENDED = 4402, "This account is suspended."
    ORIGIN_REFUSED = 4403, "This page may not call this agent."
    AGENT_UNKNOWN = 4404, "This agent does not exist or has no published version."
    TIMED_OUT = 4408, "Nothing was heard for too long."
    TENANT_BUSY = 4429, "All lines of this business are busy: try again later."
    RATE_LIMITED = 4430, "Too many calls in a short time: try again later."
    SPEND_CAP = 4431, "This account has reached its limit for the month."
    TRIAL_EXPIRED = 4432, "The trial of this account has ended."
    TIME_LIMIT = 4440, "The call reached its time limit."
    WORKER_UNAVAILABLE = 4503, "No agent could be reached: try again later."
    WORKER_TIMED_OUT = 4504, "The agent did not answer in time."
    WORKER_LOST = 4505, "The agent was lost during the call."
    WORKER_AT_CAPACITY = 4529, "The agent has no place left."
    FLEET_BUSY = 4531, "All lines of this service are busy: try again later."


class ProtocolError(ValueError):
    """A message is not of the protocol's form. The sentence may be shown to who sent it."""


def handshake(model_version: int = 0) -> bytes:
    """Return the message with which a worker says that it can talk."""
    return struct.pack("<BII", Kind.HANDSHAKE, PROTOCOL_VERSION, model_version)


def audio(ogg_opus: bytes) -> bytes:
    """Return an audio message. `ogg_opus`: part of one continuous Ogg Opus stream."""
    return b"\x01" + ogg_opus


def text(words: str) -> bytes:
    return b"\x02" + words.encode()


def control(action: Control) -> bytes:
    return bytes((Kind.CONTROL, action))


def metadata(document: dict[str, Any]) -> bytes:
    return b"\x04" + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def error(sentence: str) -> bytes:
    return b"\x05" + sentence.encode()


PING = bytes((Kind.PING,))


def read_kind(message: bytes | bytearray | memoryview) -> Kind | None:
    """Return the kind of a message, or None where the kind is unknown and the message is to be discarded.

    Raises:
        ProtocolError: the message is empty.
    """
    if not message:
        raise ProtocolError("A message was empty.")
    return Kind(message[0]) if message[0] <= Kind.PING else None


def read_metadata(message: bytes) -> dict[str, Any]:
    """Return the document of a metadata message.

    Raises:
        ProtocolError: the payload is not a JSON object with a string `type`.
    """
    try:
        document = json.loads(message[1:])
    except (ValueError, RecursionError) as problem:
        raise ProtocolError(f"Metadata was not JSON: {problem}") from problem
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        raise ProtocolError("Metadata was not an object with a type.")
    return document


@dataclasses.dataclass(frozen=True, slots=True)
class ToolsEndpoint:
    """Where a worker runs an agent's tools: POST `url`/NAME with `Authorization: Bearer token`."""

    url: str
    token: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A worker of another pool that does one part of a cascade's work: a place on it is held for the call."""

    url: str
    headers: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    max_seconds: int = 900
    """The gateway ends the call after this many seconds."""
    warn_before_seconds: int = 15
    """The worker is told this long before, so that the agent can wrap up in words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One thing said: `role` is "caller" or "agent"."""

    role: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class ToolRun:
    """A tool that was run earlier in a call."""

    name: str
    ok: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A managed service that does one part of a cascade's work, or all of it, with the tenant's key for it."""

    provider: str
    key: str = dataclasses.field(default="", repr=False)
    """Empty: the tenant has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """The first message to a worker: who to be in this call.

    `agent` is the configuration of an AgentVersion as `agents/catalog/schema.json` describes it: prompt, voice,
    greeting, facts, intents with their questions, and tools with their JSON schemas.
    """

    call_id: str
    agent: dict[str, Any] = dataclasses.field(default_factory=dict)
    business: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the agent must know of the tenant: `name`, `time_zone`, `now` (ISO 8601, with its offset)."""
    tools_endpoint: ToolsEndpoint | None = None
    limits: Limits = Limits()
    codec: str = "opus"
    trace: dict[str, str] = dataclasses.field(default_factory=dict)
    """W3C trace context: `traceparent`."""
    history: tuple[Utterance, ...] = ()
    """The conversation so far, oldest first; empty for a new call. A worker with one goes on from there."""
    tools_run: tuple[ToolRun, ...] = ()
    """What was done in it, oldest first: nothing of it is to be done again unasked."""
    parts: dict[str, Part] = dataclasses.field(default_factory=dict)
    """By what they do, `stt`, `tts` or `llm`: workers to use in place of the cascade's own."""
    services: dict[str, Service] = dataclasses.field(default_factory=dict)
    """The same for managed services: `stt`, `tts`, or `engine` for one that holds the whole conversation."""

    def to_message(self) -> bytes:
        return metadata({"type": "start", **dataclasses.asdict(self)})

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Start:
        """Read a `start` document; unknown keys are ignored, so that gateways may be newer than workers.

        Raises:
            ProtocolError: a known key has the wrong shape.
        """
        try:
            endpoint = document.get("tools_endpoint")
            return cls(
                call_id=str(document["call_id"]),
                agent=dict(document.get("agent") or {}),
                business=dict(document.get("business") or {}),
                tools_endpoint=ToolsEndpoint(endpoint["url"], endpoint["token"]) if endpoint else None,
                limits=Limits(
                    **{
                        field.name: int(value)
                        for field in dataclasses.fields(Limits)
                        if (value := (document.get("limits") or {}).get(field.name)) is not None
                    }
                ),
                codec=str(document.get("codec", "opus")),
                trace=dict(document.get("trace") or {}),
                history=tuple(Utterance(said["role"], said["text"]) for said in document.get("history") or ()),
                tools_run=tuple(ToolRun(str(run["name"]), bool(run["ok"])) for run in document.get("tools_run") or ()),
                parts={
                    str(name): Part(str(part["url"]), {str(key): str(value) for key, value in part["headers"].items()})
                    for name, part in (document.get("parts") or {}).items()
                },
                services={
                    str(name): Service(str(service["provider"]), str(service.get("key") or ""))
                    for name, service in (document.get("services") or {}).items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise ProtocolError(f"The start message is not of its form: {problem!r}") from problem


class BootKind(enum.StrEnum):
    """How a container came to be, as a call sees it."""

    WARM = "warm"
    RESTORED = "restored"
    COLD = "cold"


def boot(*, boot: BootKind, boot_ms: float, ready_age_ms: float, container: str) -> dict[str, Any]:
    """Return the `boot` metadata, sent by a worker right after its handshake.

    Args:
        boot: RESTORED or COLD, how this container started.
        boot_ms: from the order to start until it could talk.
        ready_age_ms: how long it had been able to talk when this session connected. The gateway calls the boot WARM
            where that is longer than it has waited: durations only, never two clocks.
        container: the backend's name of the container.
    """
    return {
        "type": "boot",
        "boot": str(boot),
        "boot_ms": round(boot_ms, 1),
        "ready_age_ms": round(ready_age_ms, 1),
        "container": container,
    }


def part(*, part: str, boot: dict[str, Any]) -> dict[str, Any]:
    """Return the `part` metadata: how the container that does a part of the work (`stt`, `tts`) came to be.

    Args:
        boot: what boot() returned there.
    """
    return {**boot, "type": "part", "part": part}


def turn(
    *, index: int, speech_ended_message: int | None, reply_message: int, parts_ms: dict[str, float]
) -> dict[str, Any]:
    """Return the `turn` metadata, sent right after the first audio message of a reply.

    Args:
        index: 0 for the greeting, then 1, 2, …
        speech_ended_message: index (from 0) of the caller's audio message in which speech ended; None for the greeting.
        reply_message: index (from 0) of the worker's own audio message in which the reply begins.
        parts_ms: durations on the worker's clock: `end_of_turn`, `stt`, `llm_ttft`, `tts_ttfb`.
    """
    return {
        "type": "turn",
        "index": index,
        "speech_ended_message": speech_ended_message,
        "reply_message": reply_message,
        "parts_ms": {name: round(value, 1) for name, value in parts_ms.items()},
    }


def transcript(*, turn: int, role: str, words: str, interrupted: bool = False) -> dict[str, Any]:
    """Return the `transcript` metadata: what was recognised of the caller, or what the agent really spoke."""
    return {"type": "transcript", "turn": turn, "role": role, "text": words, "interrupted": interrupted}


def tool(*, turn: int, name: str, ok: bool, duration_ms: float) -> dict[str, Any]:
    """Return the `tool` metadata. Arguments and result are kept where the tool ran."""
    return {"type": "tool", "turn": turn, "name": name, "ok": ok, "duration_ms": round(duration_ms, 1)}


def warning(*, code: str, sentence: str) -> dict[str, Any]:
    """Return the `warning` metadata: the call goes on, with less (a model that was late, a tool that failed)."""
    return {"type": "warning", "code": code, "sentence": sentence}


def wrap_up(*, seconds_left: int) -> dict[str, Any]:
    """Return the `wrap_up` metadata, sent by the gateway so that the agent can close in words."""
    return {"type": "wrap_up", "seconds_left": seconds_left}


CALLER_METADATA = frozenset({"transcript", "tool"})
"""Types of worker metadata that the gateway passes on to the caller."""
