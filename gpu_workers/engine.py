"""What every engine is to the serving layer: loaded once, attached to an identity, then serving one session a socket.

Engines that callers talk to are `gpu_workers.chat.ChatEngine`s: they get sound and give sound, and know nothing of
sockets, Opus or tokens.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from gpu_workers.protocol import BootKind

if TYPE_CHECKING:
    from gpu_workers.metrics import Metrics
    from gpu_workers.visit import Visit


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who this container is. Nothing of it may be read before `attach`: a snapshot is shared by many containers."""

    container: str
    boot: BootKind
    max_sessions: int
    session_key: bytes | None = dataclasses.field(default=None, repr=False)
    """Key of the session tokens; None lets anybody in (a worker run by itself)."""


class Engine(Protocol):
    """One kind of worker. A process holds one engine, which serves all its sessions."""

    kind: str
    path: str
    """Where its WebSocket is."""
    refusal: bytes | None
    """What a client too many is told on its socket; None refuses it before the upgrade, with HTTP 503."""

    @property
    def places(self) -> int:
        """How many sessions this engine can carry at once, known once it is loaded."""

    def load(self) -> None:
        """Load and warm up all models. Goes into the snapshot: reads no secret, takes no identity, leaves no thread."""

    def attach(self, identity: Identity, metrics: Metrics) -> None:
        """Take what differs between containers: settings from the environment, threads. Randomness is already fresh."""

    async def serve(self, visit: Visit) -> str:
        """Hold one session on its socket, close it, and return why it ended. See also: gpu_workers.chat.ChatEngine."""

    async def close(self) -> None:
        """Let go of what `attach` took."""
