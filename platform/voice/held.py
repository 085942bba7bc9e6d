"""A place on a container, as one call holds it, and how it is reached again."""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
import uuid
from typing import Any, Self

from content import crypto
from gpu_workers.protocol import BootKind
from provisioning.backends.contract import DeploymentRef, GrantedSession
from provisioning.placing import Place
from voice.times import milliseconds


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def writable(text: str) -> str:
    """Return the text without what no UTF-8 or no database column holds: halves of surrogate pairs, NUL."""
    return text.encode(errors="replace").decode().replace("\0", "")


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """How a place is reached: by this gateway, or by another one that goes on with the call."""

    backend: str
    ref: DeploymentRef
    session_ref: str
    url: str
    headers: dict[str, str] = dataclasses.field(repr=False)

    @classmethod
    def of(cls, place: Place, granted: GrantedSession) -> Self:
        return cls(place.backend, place.ref, granted.ref, granted.url, dict(granted.headers))

    def seal(self, key: bytes, session_id: uuid.UUID) -> bytes:
        """Return it encrypted: whoever has the headers can speak to the container."""
        return crypto.encrypt(key, json.dumps(dataclasses.asdict(self)).encode(), context=session_id.bytes)

    @classmethod
    def unseal(cls, key: bytes, session_id: uuid.UUID, sealed: bytes) -> Self:
        """Return what was sealed.

        Raises:
            DecryptionFailed: by another key, or for another session.
        """
        document = json.loads(crypto.decrypt(key, sealed, context=session_id.bytes))
        return cls(**{**document, "ref": DeploymentRef(**document["ref"])})


@dataclasses.dataclass(slots=True)
class HeldSession:
    id: uuid.UUID
    pool_id: uuid.UUID
    deployment_id: uuid.UUID
    region: str
    container: str
    backend_ref: str
    rate_nano_dollars_per_second: int
    granted_at: datetime.datetime
    granted: float
    """Monotonic seconds."""
    reserve_ms: int
    role: str = "engine"
    connect_ms: int | None = None
    boot: str = ""
    boot_ms: int | None = None
    ended: float | None = None
    why_ended: str = ""
    gap_ms: int | None = None
    """From the loss of the one before it to the first audio of this one; None where it is the call's first."""
    reach: Reach | None = None
    last_seen: float | None = None
    """Until when it is known to have been held, where another gateway held it and this one has not reached it yet."""
    sealed: bytes | None = None
    """`reach`, encrypted; made when it is first written."""

    @classmethod
    def at(cls, place: Place, granted: GrantedSession, asked: float, *, role: str = "engine") -> Self:
        """Return the session that was asked for then (monotonic seconds) and granted now."""
        return cls(
            role=role,
            id=uuid.uuid4(),
            pool_id=place.pool_id,
            deployment_id=place.deployment_id,
            region=place.region,
            container=granted.container or "",
            backend_ref=granted.ref,
            rate_nano_dollars_per_second=place.rate_nano_dollars_per_second,
            granted_at=now(),
            granted=time.monotonic(),
            reserve_ms=round((time.monotonic() - asked) * 1000),
            reach=Reach.of(place, granted),
        )

    def end(self, why: str, at: float | None = None) -> None:
        if self.ended is None:
            at = self.last_seen if at is None else at
            self.ended, self.why_ended = time.monotonic() if at is None else max(at, self.granted), why

    def hear_boot(self, document: dict[str, Any]) -> bool:
        """Take in how the container came to be; False where the document is not of its form."""
        boot, age_ms = document.get("boot"), milliseconds(document.get("ready_age_ms"))
        if boot not in list(BootKind) or age_ms is None:
            return False
        # Had the container been able to talk for longer than this call waited for it, the call found it warm.
        waited_ms = self.reserve_ms + (self.connect_ms or 0)
        self.boot = str(BootKind.WARM) if age_ms > waited_ms else str(boot)
        self.boot_ms = milliseconds(document.get("boot_ms"))
        if container := document.get("container"):
            self.container = writable(str(container))[:120]
        return True

    def active_ms(self, at: float) -> int:
        return round(((self.ended or at) - self.granted) * 1000)
