"""What every backend does for the control plane, and in which words. No Django, no provider.

Nothing above `provisioning/backends/` may ask which backend it talks to.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

SOCKET_PATHS = {
    "cascade": "/api/chat",
    "moshi": "/api/chat",
    "stt": "/api/asr-streaming",
    "tts": "/api/tts_streaming",
    "llm": "/v1/chat/completions",
}
"""Where a worker of each kind is spoken to."""

HTTP_WORKERS = frozenset({"llm"})
"""Spoken to in plain requests; all others on a WebSocket."""


def address_of(worker: str, host: str, *, secure: bool) -> str:
    """Return where a worker of this kind is spoken to on a host (with its port)."""
    scheme = ("http" if worker in HTTP_WORKERS else "ws") + ("s" if secure else "")
    return f"{scheme}://{host}{SOCKET_PATHS[worker]}"


MAX_NAME_CHARACTERS = 64


# --- errors ----------------------------------------------------------------------------------------------------------
class BackendError(Exception):
    """A backend could not do it. The sentence may be shown to a tenant; `permanent`: trying again will not help."""

    permanent = False

    def __init__(self, sentence: str, *, permanent: bool | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        if permanent is not None:
            self.permanent = permanent


class BackendUnreachable(BackendError):
    """The backend did not answer."""


class CredentialsRefused(BackendError):
    permanent = True


class BillRefused(BackendError):
    """The provider keeps no bill that could be read, or not for this account: costs stay estimates."""

    permanent = True


class DeploymentRefused(BackendError):
    """The specification cannot be deployed: unknown GPU or worker, bad image, over a quota."""

    permanent = True


class QuotaReached(BackendError):
    """The account is at a limit: fewer containers elsewhere, or a bigger plan, make room."""


class DeploymentUnknown(BackendError):
    """The backend has no such deployment (any more)."""


class SessionUnavailable(BackendError):
    """No place could be had in time."""


class AtCapacity(SessionUnavailable):
    """All containers that the deployment may have are full."""


# --- what is wanted --------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """All that a backend must know to run a pool's workers.

    The first four fields say whose it is and name it; every other one, when changed, needs a new deployment.
    """

    environment: str
    """The installation, where several share one account: `production`, `staging`, …"""
    tenant_id: str
    tenant_slug: str
    pool_id: str

    worker: str
    region: str
    image: str = ""
    checkpoint: str = ""
    gpu: tuple[str, ...] = ()
    """In order of preference; empty for CPU alone."""
    cpu_millicores: int = 1000
    memory_mib: int = 1024
    sessions_per_container: int = 1
    snapshots: bool = True
    startup_timeout_seconds: int = 120
    exit_grace_seconds: int = 60
    account: str = ""
    """The tenant's own account with the provider, where it stands in one: see AccountRef."""

    def spec_hash(self) -> str:
        """Return a hash of what needs a new deployment."""
        document = self.to_document()
        for field in ("environment", "tenant_id", "tenant_slug", "pool_id"):
            del document[field]
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The deployment's name in the backend: readable first, unique by its end."""
        owner = hashlib.sha256(f"{self.pool_id}:{self.spec_hash()}".encode()).hexdigest()[:16]
        readable = f"{self.environment}-{self.tenant_slug}-{self.worker}-{self.region}"
        return f"{readable[: MAX_NAME_CHARACTERS - 17]}-{owner}"

    @property
    def ref(self) -> DeploymentRef:
        return DeploymentRef(
            name=self.name, worker=self.worker, region=self.region, tenant_id=self.tenant_id, account=self.account
        )

    @property
    def tags(self) -> dict[str, str]:
        """Labels by which a provider's bill is read back."""
        return {
            "warmline": self.environment,
            "tenant": self.tenant_id,
            "pool": self.pool_id,
            "worker": self.worker,
            "region": self.region,
            "spec": self.spec_hash(),
        }

    def to_document(self) -> dict[str, Any]:
        document = {**dataclasses.asdict(self), "gpu": list(self.gpu)}
        if not self.account:
            del document["account"]
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        return cls(**{**document, "gpu": tuple(document.get("gpu", ()))})


@dataclasses.dataclass(frozen=True, slots=True)
class Autoscaling:
    """How many containers; changed live, with no new deployment."""

    min_containers: int = 0
    """Always there."""
    buffer_containers: int = 0
    """Idle ones kept ready beside those in use, while there is load."""
    max_containers: int = 1
    scaledown_window_seconds: int = 300
    """How long a container may be idle before it is stopped."""


@dataclasses.dataclass(frozen=True, slots=True)
class AccountRef:
    """An account with the provider that a tenant brought; its credentials are in the vault (`provisioning.vault`)."""

    tenant_id: str
    id: str


@dataclasses.dataclass(frozen=True, slots=True)
class DeploymentRef:
    """A deployment as its backend finds it: by name, in an account."""

    name: str
    worker: str
    region: str
    tenant_id: str
    account: str = ""
    """The id of the tenant's own account; empty: the operator's."""

    @property
    def account_ref(self) -> AccountRef | None:
        return AccountRef(self.tenant_id, self.account) if self.account else None


# --- what is there ---------------------------------------------------------------------------------------------------
class ReportedState(enum.StrEnum):
    DEPLOYING = "deploying"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class ContainerState(enum.StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class StopReason(enum.StrEnum):
    SCALEDOWN = "scaledown"
    DRAINED = "drained"
    CRASHED = "crashed"
    START_FAILED = "start_failed"
    START_TIMED_OUT = "start_timed_out"
    STOPPED = "stopped"
    LOST = "lost"


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerReport:
    """One container. `boot` is "cold" or "restored", empty until it is ready; `boot_ms` by the worker's own clock."""

    name: str
    state: ContainerState
    started_at: datetime.datetime
    ready_at: datetime.datetime | None = None
    stopped_at: datetime.datetime | None = None
    boot: str = ""
    boot_ms: float | None = None
    why: str = ""
    """A StopReason, once stopped."""
    exit_code: int | None = None
    sessions: int | None = 0
    """None where the backend cannot tell."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeploymentReport:
    """What the backend has. `containers` include those stopped lately."""

    ref: DeploymentRef
    state: ReportedState
    sentence: str = ""
    """Why it is not ready, or what is wrong with it."""
    autoscaling: Autoscaling | None = None
    containers: tuple[ContainerReport, ...] = ()
    forgets_stopped: bool = False
    """Containers that have stopped are left out: one that is missing was stopped, for all that is known."""
    waiting: int = 0
    """Sessions asked for and not yet granted."""
    snapshot: str = ""
    """Of the loaded state: "", "making", "made" or "failed"."""

    @property
    def sessions(self) -> int:
        """How many are known of."""
        return sum(container.sessions or 0 for container in self.containers)

    @property
    def is_idle(self) -> bool:
        """Whether there is surely no session. A container whose sessions are not told may have some while it runs."""
        running = (each for each in self.containers if each.state != ContainerState.STOPPED)
        return not self.waiting and all(each.sessions == 0 for each in running)


@dataclasses.dataclass(frozen=True, slots=True)
class PrimingReport:
    """What the first boots of a deployment were like."""

    boots: tuple[str, ...] = ()
    boot_ms: tuple[float, ...] = ()
    failures: tuple[str, ...] = ()
    is_done: bool = True
    """False where more boots are needed than there was time for: ask again."""


@dataclasses.dataclass(frozen=True, slots=True)
class GrantedSession:
    """A place on a container. The WebSocket handshake to `url` carries `headers`, also when coming back to it."""

    ref: str
    url: str
    headers: dict[str, str] = dataclasses.field(repr=False)
    container: str | None
    """Where the backend tells it; else the worker's `boot` metadata does."""
    reserve_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class BilledCost:
    """A line of the provider's bill for an hour of one deployment. `key` names it, the same at every reading."""

    deployment_name: str
    tenant_id: str
    """As its label says: not to be believed of an account that is a tenant's own."""
    since: datetime.datetime
    until: datetime.datetime
    nano_dollars: int
    key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """What computing costs at the provider today, in nano-dollars a second. None, or left out: it does not tell."""

    gpu: Mapping[str, int] = dataclasses.field(default_factory=dict)
    cpu_core: int | None = None
    memory_gib: int | None = None
    unknown: tuple[str, ...] = ()
    """What else it names prices for, in its own words."""


# --- the contract ----------------------------------------------------------------------------------------------------
class Backend(Protocol):
    """An open connection to where pools run. Every method may raise BackendError; none waits without a limit."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def deploy(self, spec: DeploymentSpec, autoscaling: Autoscaling) -> DeploymentReport:
        """Make the deployment; do nothing where it stands already with this specification."""

    async def prime(self, spec: DeploymentSpec, *, timeout_seconds: float) -> PrimingReport:
        """Start sessions until a container has shown that it can talk, restored where snapshots are wanted.

        Where time is over before that, what was seen so far is returned, not done.

        Raises:
            SessionUnavailable: none could in time.
        """

    async def scale(self, ref: DeploymentRef, autoscaling: Autoscaling) -> None:
        """Change the limits of a standing deployment."""

    async def status(self, ref: DeploymentRef) -> DeploymentReport:
        """Return what is there.

        Raises:
            DeploymentUnknown
        """

    async def start_session(
        self, ref: DeploymentRef, *, timeout_ms: int, idle_timeout_seconds: int = 30
    ) -> GrantedSession:
        """Reserve a place, starting a container where none has room: this wait is the cold start.

        Cancelled or timed out, it leaves nothing behind. A session with no connection for `idle_timeout_seconds` ends.

        Raises:
            AtCapacity, SessionUnavailable, DeploymentUnknown
        """

    async def end_session(self, ref: DeploymentRef, session_ref: str) -> None:
        """Give a place back; nothing happens where it is gone already."""

    async def stop(self, ref: DeploymentRef) -> None:
        """Stop all containers and forget the deployment; nothing happens where it is gone already."""

    async def deployments(self, account: AccountRef | None = None) -> Sequence[DeploymentRef]:
        """Return all that stand in an account in this installation's name, whoever asked for them."""

    async def read_log(self, ref: DeploymentRef, container: str, *, max_bytes: int = 65_536) -> str:
        """Return the end of a container's log, empty where there is none."""

    async def costs(
        self, since: datetime.datetime, until: datetime.datetime, account: AccountRef | None = None
    ) -> Sequence[BilledCost]:
        """Return an account's bill for a time, empty where the provider sends none.

        Raises:
            BillRefused: the provider has one, and does not show it.
        """

    async def rates(self) -> Rates | None:
        """Return today's prices; None where the provider tells none."""

    async def account_name(self, credentials: Mapping[str, str]) -> str:
        """Return what the provider calls the account that these credentials open.

        Raises:
            CredentialsRefused
        """
