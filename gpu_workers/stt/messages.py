"""The messages of moshi-server's speech-to-text: MessagePack maps whose `type` says what they are.

Source: `rust/moshi-server/src/asr.rs` of kyutai-labs/moshi. Knows nothing of sockets or models.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gpu_workers.moshi_messages import BadMessage, field, numbers, pack
from gpu_workers.pcm import Samples
from gpu_workers.stt.batch import Heard
from gpu_workers.stt.words import EndWord, Word


@dataclasses.dataclass(frozen=True, slots=True)
class Audio:
    samples: Samples
    """24 kHz mono, -1 to 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class OggOpus:
    data: bytes
    """Part of one continuous Ogg Opus stream of 24 kHz mono."""


@dataclasses.dataclass(frozen=True, slots=True)
class Marker:
    """Comes back once all sound before it has been transcribed."""

    id: int


@dataclasses.dataclass(frozen=True, slots=True)
class Init:
    """Begin anew, as if connected again."""


Request = Audio | OggOpus | Marker | Init


def read(kind: str, document: dict[str, Any]) -> Request:
    """Return what a client asks for with a message of a type.

    Raises:
        BadMessage: the message is not of the protocol's form.
    """
    match kind:
        case "Audio":
            return Audio(np.clip(numbers(field(document, "pcm"), "pcm"), -1, 1))
        case "OggOpus":
            return OggOpus(_bytes(field(document, "data")))
        case "Marker":
            return Marker(_id(field(document, "id")))
        case "Init":
            return Init()
        case unknown:
            raise BadMessage(
                f"Messages of type {unknown[:40]!r} are not known here: send Audio, OggOpus, Marker or Init."
            )


def marker(marker_id: int) -> bytes:
    return pack(type="Marker", id=marker_id)


def heard(step: Heard, *, buffered_samples: int) -> list[bytes]:
    """Return the messages that a step of the model makes.

    Args:
        buffered_samples: how many came in and wait for their step.
    """
    messages = []
    if step.pauses:  # moshi-server tells of no steps where the model predicts no pauses
        messages.append(pack(type="Step", step_idx=step.step, prs=list(step.pauses), buffered_pcm=buffered_samples))
    messages += [_said(each) for each in step.said]
    return messages


def _said(said: Word | EndWord) -> bytes:
    if isinstance(said, Word):
        return pack(type="Word", text=said.text, start_time=said.start_seconds)
    return pack(type="EndWord", stop_time=said.stop_seconds)


def _bytes(data: Any) -> bytes:
    """Return bytes that came as such, or as moshi-server writes them: as a list of small numbers."""
    if isinstance(data, bytes):
        return data
    try:
        return bytes(data if isinstance(data, list) else None)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadMessage("data was not bytes.") from None


def _id(marker_id: Any) -> int:
    if type(marker_id) is not int or not -(2**63) <= marker_id < 2**63:
        raise BadMessage("id was not an integer of 64 bits.")
    return marker_id
