"""The messages of moshi-server's text-to-speech: what clients ask for, and the forms in which they get sound.

Source: `rust/moshi-server/src/{py_module,tts}.rs` of kyutai-labs/moshi. Knows nothing of sockets or models.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import sphn
import torch

from gpu_workers import protocol
from gpu_workers.moshi_messages import BadMessage, field, numbers, pack
from gpu_workers.pcm import Samples
from gpu_workers.tts.batch import SpokenWord

MAX_TEXT_CHARACTERS = 20_000


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """More to say, in whole words."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Voice:
    """Whom to speak as: an embedding of shape (1, dimension, frames). Before the first text."""

    embedding: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Eos:
    """All text was sent."""


Request = Text | Voice | Eos


def read(kind: str, document: dict[str, Any]) -> Request:
    """Return what a client asks for with a message of a type.

    Raises:
        BadMessage: the message is not of the protocol's form.
    """
    match kind:
        case "Text":
            text = field(document, "text")
            if not isinstance(text, str):
                raise BadMessage("text was not text.")
            if len(text) > MAX_TEXT_CHARACTERS:
                raise BadMessage(f"A text was longer than {MAX_TEXT_CHARACTERS:,} characters: send it in parts.")
            return Text(text)
        case "Voice":
            return Voice(_embedding(field(document, "embeddings"), field(document, "shape")))
        case "Eos":
            return Eos()
        case unknown:
            raise BadMessage(f"Messages of type {unknown[:40]!r} are not known here: send Text, Voice or Eos.")


def _embedding(embeddings: Any, shape: Any) -> torch.Tensor:
    values = numbers(embeddings, "embeddings")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise BadMessage("shape was not a list of sizes.")
    if math.prod(shape) != len(values):
        raise BadMessage(f"{len(values)} embeddings do not make the shape {shape}.")
    return torch.from_numpy(values).reshape(shape)


class Form(Protocol):
    """How sound and words are written. Coding may take long enough to disturb others: see `is_slow`."""

    is_packed: bool
    """Whether other messages than sound have a place in it: Ready, Text, Error."""
    is_slow: bool

    def sound(self, samples: Samples) -> bytes:
        """Return the message for a frame; empty where none is due."""


class Pcm:
    """Bare samples: 32-bit floats, little-endian."""

    is_packed = is_slow = False

    def sound(self, samples: Samples) -> bytes:
        return samples.astype("<f4").tobytes()


class PcmMessagePack:
    is_packed, is_slow = True, False

    def sound(self, samples: Samples) -> bytes:
        return pack(type="Audio", pcm=samples.tolist())


class OggOpus:
    """One continuous Ogg Opus stream."""

    is_packed, is_slow = False, True

    def __init__(self) -> None:
        self._writer = sphn.OpusStreamWriter(protocol.SAMPLE_RATE_HZ)

    def sound(self, samples: Samples) -> bytes:
        return bytes(self._writer.append_pcm(samples))


class OggOpusMessagePack(OggOpus):
    is_packed = True

    def sound(self, samples: Samples) -> bytes:
        data = super().sound(samples)
        return pack(type="OggOpus", data=data) if data else b""


FORMS: dict[str, type[Form]] = {
    "OggOpus": OggOpus,
    "OggOpusMessagePack": OggOpusMessagePack,
    "Pcm": Pcm,
    "PcmMessagePack": PcmMessagePack,
}
"""Values of `format` in the address. moshi-server takes OggOpus where there is none."""


def form(query: dict[str, str]) -> Form:
    """Return the form that a client asks for.

    Raises:
        BadMessage: it is not known.
    """
    name = query.get("format", "OggOpus")
    try:
        return FORMS[name]()
    except KeyError:
        raise BadMessage(f"The format {name[:40]!r} is not known here: ask for {', '.join(FORMS)}.") from None


def word(spoken: SpokenWord) -> bytes:
    return pack(
        type="Text", text=spoken.text, start_s=round(spoken.start_seconds, 3), stop_s=round(spoken.stop_seconds, 3)
    )
