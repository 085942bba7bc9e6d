"""Connections to Modal, one for each workspace and process: opening one takes a round trip and a handshake."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Self

import modal


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """Of a Modal workspace."""

    token_id: str
    token_secret: str = dataclasses.field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, str]) -> Self:
        return cls(document.get("token_id", ""), document.get("token_secret", ""))


@dataclasses.dataclass(slots=True)
class _Connection:
    client: modal.Client
    used: float


UNUSED_SECONDS = 900.0
"""A connection that nobody asked for so long is closed: of an account that was left, for one. No call lasts as long."""
_open: dict[tuple[int, Credentials], _Connection] = {}


async def client_of(credentials: Credentials) -> modal.Client:
    """Return a connection. Not those of the process that this one was forked from.

    Raises:
        modal.exception.Error
    """
    key, now = (os.getpid(), credentials), time.monotonic()
    await _close_unused(now)
    connection = _open.get(key)
    if connection is None or connection.client.is_closed():
        client = await modal.Client.from_credentials.aio(credentials.token_id, credentials.token_secret)
        connection = _open[key] = _Connection(client, now)
    connection.used = now
    return connection.client


async def _close_unused(now: float) -> None:
    pid = os.getpid()
    for key in [key for key, each in _open.items() if key[0] == pid and now - each.used > UNUSED_SECONDS]:
        if (unused := _open.pop(key, None)) is not None:
            await unused.client.close.aio()


async def name_of(credentials: Credentials) -> str:
    """Return the name of the workspace that credentials open, over a connection that is not kept.

    Raises:
        modal.exception.Error
    """
    client = await modal.Client.from_credentials.aio(credentials.token_id, credentials.token_secret)
    try:
        workspace = modal.Workspace.from_context(client=client)
        await workspace.hydrate.aio()
        return workspace.name or ""
    finally:
        await client.close.aio()
