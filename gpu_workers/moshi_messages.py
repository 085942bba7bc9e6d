"""What the messages of moshi-server's protocols have in common: MessagePack maps whose `type` says what they are.

Source: `rust/moshi-server` of kyutai-labs/moshi. Knows nothing of sockets or models.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from gpu_workers.pcm import Samples

MAX_MESSAGE_BYTES = 1 << 19
"""About four seconds of sound as clients send it."""
MAX_NUMBER = 1e30


class BadMessage(ValueError):
    """A message is not of the protocol's form. The sentence may be shown to who sent it."""


class MessageTooBig(BadMessage):
    pass


def unpack(message: bytes) -> tuple[str, dict[str, Any]]:
    """Return the type of a client's message, and its fields.

    Raises:
        BadMessage: the message is not of the protocol's form, or too big.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise MessageTooBig(f"A message was longer than {MAX_MESSAGE_BYTES:,} bytes: send it in smaller parts.")
    try:
        document = msgpack.unpackb(message)
    except (ValueError, TypeError, msgpack.UnpackException) as problem:
        raise BadMessage(f"A message was not MessagePack: {problem}.") from problem
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        raise BadMessage("A message was not a map with a type.")
    return document["type"], document


def pack(**document: Any) -> bytes:
    packed: bytes = msgpack.packb(document)
    return packed


def ready(boot: dict[str, Any]) -> bytes:
    """Return the message that comes first. moshi-server sends no `boot`, and its clients look at the type alone.

    Args:
        boot: how the container started, as protocol.boot() tells it.
    """
    return pack(type="Ready", boot=boot)


def error(sentence: str) -> bytes:
    return pack(type="Error", message=sentence)


def field(document: dict[str, Any], name: str) -> Any:
    """Return what a message must hold.

    Raises:
        BadMessage: it does not.
    """
    try:
        return document[name]
    except KeyError:
        raise BadMessage(f"A message of type {document['type']} lacks {name}.") from None


def numbers(value: Any, name: str) -> Samples:
    """Return a list of finite numbers of a message.

    Raises:
        BadMessage: it is something else.
    """
    if not isinstance(value, list):
        raise BadMessage(f"{name} was not a list of numbers.")
    if not value:
        return np.zeros(0, np.float32)
    try:
        array = np.array(value)
    except (ValueError, TypeError, OverflowError):  # lists in it, of several lengths
        raise BadMessage(f"{name} was not a list of numbers.") from None
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise BadMessage(f"{name} was not a list of numbers.")
    if not np.isfinite(array).all():
        raise BadMessage(f"{name} held a number that is not finite.")
    return np.clip(array, -MAX_NUMBER, MAX_NUMBER).astype(np.float32)
