"""A backend whose containers are scripted workers that run already: `scripted-PORT` is the one at that port.

See also: gateway_process, which adds it to the registry of backends.
"""

from __future__ import annotations

import asyncio
import datetime
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from provisioning.backends.contract import (
    AccountRef,
    AtCapacity,
    Autoscaling,
    BackendUnreachable,
    BilledCost,
    DeploymentRef,
    DeploymentReport,
    DeploymentSpec,
    GrantedSession,
    PrimingReport,
    Rates,
    ReportedState,
)


class ScriptedBackend:
    @classmethod
    def from_settings(cls) -> Self:
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def start_session(
        self, ref: DeploymentRef, *, timeout_ms: int, idle_timeout_seconds: int = 30
    ) -> GrantedSession:
        began = time.monotonic()
        match ref.name.split("-"):
            case ["scripted", port] if port.isdigit():
                pass
            case ["scripted", "hanging", *_]:
                await asyncio.Event().wait()  # past every limit that it was given
            case ["scripted", "full", *_]:
                raise AtCapacity("All scripted places are taken.")
            case _:
                raise BackendUnreachable("The scripted backend is away.")
        session_ref = uuid.uuid4().hex
        return GrantedSession(
            ref=session_ref,
            url=f"ws://127.0.0.1:{port}/api/chat",
            headers={"Modal-Authorization": f"Bearer {session_ref}.signed"},
            container=None,
            reserve_ms=round((time.monotonic() - began) * 1000),
        )

    async def end_session(self, ref: DeploymentRef, session_ref: str) -> None:
        return None

    async def deploy(self, spec: DeploymentSpec, autoscaling: Autoscaling) -> DeploymentReport:
        return DeploymentReport(ref=spec.ref, state=ReportedState.READY)

    async def prime(self, spec: DeploymentSpec, *, timeout_seconds: float) -> PrimingReport:
        return PrimingReport()

    async def scale(self, ref: DeploymentRef, autoscaling: Autoscaling) -> None:
        return None

    async def status(self, ref: DeploymentRef) -> DeploymentReport:
        return DeploymentReport(ref=ref, state=ReportedState.READY)

    async def stop(self, ref: DeploymentRef) -> None:
        return None

    async def deployments(self, account: AccountRef | None = None) -> Sequence[DeploymentRef]:
        return ()

    async def read_log(self, ref: DeploymentRef, container: str, *, max_bytes: int = 65_536) -> str:
        return ""

    async def costs(
        self, since: datetime.datetime, until: datetime.datetime, account: AccountRef | None = None
    ) -> Sequence[BilledCost]:
        return ()

    async def rates(self) -> Rates | None:
        return None

    async def account_name(self, credentials: Mapping[str, str]) -> str:
        return "scripted"
