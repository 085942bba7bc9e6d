"""The messages of moshi-server's speech-to-text: MessagePack maps whose `type` says what they are.

Source: `rust/moshi-server/src/asr.rs` of kyutai-labs/moshi. Knows nothing of sockets or models.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import numpy as np

from gpu_workers.pcm import Samples
from gpu_workers.stt.batch import Heard
from gpu_workers.stt.words import EndWord, Word

MAX_MESSAGE_BYTES = 1 << 19
"""About four seconds of sound as clients send it."""


class BadMessage(ValueError):
    """A message is not of the protocol's form. The sentence may be shown to who sent it."""


class MessageTooBig(BadMessage):
    pass


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


def read(message: bytes) -> Request:
    """Return what a client asks for.

    Raises:
        BadMessage: the message is not of the protocol's form, or too big.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise MessageTooBig(f"A message was longer than {MAX_MESSAGE_BYTES:,} bytes: send sound in smaller parts.")
    try:
        document = msgpack.unpackb(message)
    except (ValueError, TypeError, msgpack.UnpackException) as problem:
        raise BadMessage(f"A message was not MessagePack: {problem}.") from problem
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        raise BadMessage("A message was not a map with a type.")
    match document["type"]:
        case "Audio":
            return Audio(_samples(_field(document, "pcm")))
        case "OggOpus":
            return OggOpus(_bytes(_field(document, "data")))
        case "Marker":
            return Marker(_id(_field(document, "id")))
        case "Init":
            return Init()
        case unknown:
            raise BadMessage(
                f"Messages of type {unknown[:40]!r} are not known here: send Audio, OggOpus, Marker or Init."
            )


def ready(boot: dict[str, Any]) -> bytes:
    """Return the message that comes first. moshi-server sends no `boot`, and its clients look at the type alone.

    Args:
        boot: how the container started, as protocol.boot() tells it.
    """
    return _pack(type="Ready", boot=boot)


def error(sentence: str) -> bytes:
    return _pack(type="Error", message=sentence)


def marker(marker_id: int) -> bytes:
    return _pack(type="Marker", id=marker_id)


def heard(step: Heard, *, buffered_samples: int) -> list[bytes]:
    """Return the messages that a step of the model makes.

    Args:
        buffered_samples: how many came in and wait for their step.
    """
    messages = []
    if step.pauses:  # moshi-server tells of no steps where the model predicts no pauses
        messages.append(_pack(type="Step", step_idx=step.step, prs=list(step.pauses), buffered_pcm=buffered_samples))
    messages += [_said(each) for each in step.said]
    return messages


def _said(said: Word | EndWord) -> bytes:
    if isinstance(said, Word):
        return _pack(type="Word", text=said.text, start_time=said.start_seconds)
    return _pack(type="EndWord", stop_time=said.stop_seconds)


def _pack(**document: Any) -> bytes:
    packed: bytes = msgpack.packb(document)
    return packed


def _field(document: dict[str, Any], name: str) -> Any:
    try:
        return document[name]
    except KeyError:
        raise BadMessage(f"A message of type {document['type']} lacks {name}.") from None


def _samples(pcm: Any) -> Samples:
    if not isinstance(pcm, list):
        raise BadMessage("pcm was not a list of numbers.")
    if not pcm:
        return np.zeros(0, np.float32)
    try:
        samples = np.array(pcm)
    except (ValueError, TypeError, OverflowError):  # lists in it, of several lengths
        raise BadMessage("pcm was not a list of numbers.") from None
    if samples.ndim != 1 or samples.dtype.kind not in "fiu":
        raise BadMessage("pcm was not a list of numbers.")
    if not np.isfinite(samples).all():
        raise BadMessage("pcm held a number that is not finite.")
    return np.clip(samples, -1, 1).astype(np.float32)


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
