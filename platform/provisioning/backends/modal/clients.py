"""Connections to Modal, one for each workspace and process: opening one takes a round trip and a handshake."""

from __future__ import annotations

import dataclasses
import os

import modal


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """Of a Modal workspace."""

    token_id: str
    token_secret: str = dataclasses.field(repr=False)


_open: dict[tuple[int, Credentials], modal.Client] = {}


async def client_of(credentials: Credentials) -> modal.Client:
    """Return a connection. Not those of the process that this one was forked from.

    Raises:
        modal.exception.Error
    """
    key = os.getpid(), credentials
    client = _open.get(key)
    if client is None or client.is_closed():
        client = _open[key] = await modal.Client.from_credentials.aio(credentials.token_id, credentials.token_secret)
    return client
