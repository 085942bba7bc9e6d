"""The local backend as the control plane sees it: a client of the supervisor."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from provisioning.backends.contract import (
    AccountRef,
    Autoscaling,
    BackendUnreachable,
    BilledCost,
    CredentialsRefused,
    DeploymentRef,
    DeploymentReport,
    DeploymentSpec,
    GrantedSession,
    PrimingReport,
    Rates,
)
from provisioning.backends.local.documents import deployment_report, priming_report, read_error

ANSWER_SECONDS = 10.0
STOP_SECONDS = 30.0
"""The supervisor answers sooner than its containers end where their grace is long."""


class LocalBackend:
    """See `provisioning.backends.contract.Backend`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._client: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(cls) -> Self:
        from django.conf import settings

        return cls(settings.LOCAL_SUPERVISOR_URL, settings.LOCAL_SUPERVISOR_TOKEN)

    async def __aenter__(self) -> Self:
        # Each waiting caller holds a connection: no limit but the file descriptors'.
        self._client = aiohttp.ClientSession(
            headers=self._headers, connector=aiohttp.TCPConnector(limit=0), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def deploy(self, spec: DeploymentSpec, autoscaling: Autoscaling) -> DeploymentReport:
        document = {"spec": spec.to_document(), "autoscaling": asdict(autoscaling)}
        return deployment_report(await self._ask("PUT", spec.ref, document=document))

    async def prime(self, spec: DeploymentSpec, *, timeout_seconds: float) -> PrimingReport:
        answer = await self._ask(
            "POST",
            spec.ref,
            "/priming",
            document={"timeout_seconds": timeout_seconds},
            seconds=timeout_seconds + ANSWER_SECONDS,
        )
        return priming_report(answer)

    async def scale(self, ref: DeploymentRef, autoscaling: Autoscaling) -> None:
        await self._ask("PATCH", ref, document=asdict(autoscaling))

    async def status(self, ref: DeploymentRef) -> DeploymentReport:
        return deployment_report(await self._ask("GET", ref))

    async def start_session(
        self, ref: DeploymentRef, *, timeout_ms: int, idle_timeout_seconds: int = 30
    ) -> GrantedSession:
        answer = await self._ask(
            "POST",
            ref,
            "/sessions",
            document={"timeout_ms": timeout_ms, "idle_timeout_seconds": idle_timeout_seconds},
            seconds=timeout_ms / 1000 + ANSWER_SECONDS,
        )
        return GrantedSession(**answer)

    async def end_session(self, ref: DeploymentRef, session_ref: str) -> None:
        await self._ask("DELETE", ref, f"/sessions/{quote(session_ref, safe='')}")

    async def stop(self, ref: DeploymentRef) -> None:
        await self._ask("DELETE", ref, seconds=STOP_SECONDS)

    async def deployments(self, account: AccountRef | None = None) -> Sequence[DeploymentRef]:
        answer = await self._request("GET", "/deployments")
        return [DeploymentRef(**ref) for ref in answer["deployments"]]

    async def read_log(self, ref: DeploymentRef, container: str, *, max_bytes: int = 65_536) -> str:
        path = f"/deployments/{quote(ref.name, safe='')}/containers/{quote(container, safe='')}/log"
        return str(await self._request("GET", f"{path}?max_bytes={max_bytes}", is_text=True))

    async def costs(
        self, since: datetime.datetime, until: datetime.datetime, account: AccountRef | None = None
    ) -> Sequence[BilledCost]:
        return []

    async def rates(self) -> Rates | None:
        return None

    async def account_name(self, credentials: Mapping[str, str]) -> str:
        raise CredentialsRefused("Workers on this machine need no account.")

    async def _ask(
        self,
        method: str,
        ref: DeploymentRef,
        path: str = "",
        *,
        document: dict[str, Any] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Any:
        return await self._request(
            method, f"/deployments/{quote(ref.name, safe='')}{path}", document=document, seconds=seconds
        )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        document: dict[str, Any] | None = None,
        seconds: float = ANSWER_SECONDS,
        is_text: bool = False,
    ) -> Any:
        if self._client is None:
            raise RuntimeError("Use the backend as a context manager: async with make_backend(…) as backend.")
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=ANSWER_SECONDS)
        try:
            async with self._client.request(method, self._url + path, json=document, timeout=timeout) as answer:
                body = await answer.text()
                status = answer.status
        except TimeoutError as problem:
            raise BackendUnreachable(f"The local supervisor at {self._url} did not answer in time.") from problem
        except aiohttp.ClientError as problem:
            raise BackendUnreachable(
                f"The local supervisor at {self._url} cannot be reached: is it running? ({problem})"
            ) from problem
        if status == 200 and is_text:
            return body
        try:
            content = json.loads(body)
        except ValueError as problem:
            raise BackendUnreachable(f"What answers at {self._url} is no local supervisor ({status}).") from problem
        if status != 200:
            raise read_error(content)
        return content
