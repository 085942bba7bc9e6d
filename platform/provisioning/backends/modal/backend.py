"""The Modal backend: an App for each deployment, a session of its Server for each call.

What stands at Modal is asked of Modal: nothing is kept here but connections and handles.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import modal

from gpu_workers.protocol import BootKind
from gpu_workers.tokens import HEADER, SESSION_HEADER
from provisioning import vault as vaults
from provisioning.backends.contract import (
    AccountRef,
    Autoscaling,
    BilledCost,
    ContainerReport,
    ContainerState,
    CredentialsRefused,
    DeploymentRef,
    DeploymentReport,
    DeploymentSpec,
    DeploymentUnknown,
    GrantedSession,
    PrimingReport,
    Rates,
    ReportedState,
    SessionUnavailable,
    address_of,
)
from provisioning.backends.modal import raw
from provisioning.backends.modal.apps import SERVER_NAME, Installation, autoscaler_settings, make_app
from provisioning.backends.modal.billing import read_rates, read_report
from provisioning.backends.modal.clients import Credentials, client_of, name_of
from provisioning.backends.modal.problems import named
from provisioning.backends.modal.workspace import Workspace

ANSWER_SECONDS = 15.0
DEPLOY_SECONDS = 300.0
REPORT_SECONDS = 60.0


class ModalBackend:
    """See `provisioning.backends.contract.Backend`."""

    def __init__(
        self,
        credentials: Credentials,
        installation: Installation,
        *,
        environment: str,
        vault: vaults.Vault | None = None,
    ) -> None:
        self._credentials = credentials
        self._installation = installation
        self._environment = environment
        self._own = vaults.ReadCredentials(vault)
        self._servers: dict[str, tuple[modal.Client, modal.Server]] = {}
        self._http: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(cls) -> Self:
        from django.conf import settings

        return cls(
            Credentials(settings.MODAL_TOKEN_ID, settings.MODAL_TOKEN_SECRET),
            Installation(settings.MODAL_ENVIRONMENT),
            environment=settings.ENVIRONMENT,
            vault=vaults.in_use(),
        )

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    # --- deployments ------------------------------------------------------------------------------------------------
    async def deploy(self, spec: DeploymentSpec, autoscaling: Autoscaling) -> DeploymentReport:
        async with named(within_seconds=DEPLOY_SECONDS):
            client = await self._client(spec.ref.account_ref)
            if not await self._stands(spec.ref):
                await Workspace(client, self._installation.modal_environment).check(spec)
                app = make_app(spec, autoscaling, self._installation)
                await app.deploy.aio(client=client, environment_name=self._installation.modal_environment or None)
                self._servers.pop(spec.name, None)
        await self.scale(spec.ref, autoscaling)
        return await self.status(spec.ref)

    async def scale(self, ref: DeploymentRef, autoscaling: Autoscaling) -> None:
        async with named(within_seconds=ANSWER_SECONDS):
            server = await self._server(ref)
            await server.autoscaler.update.aio(**autoscaler_settings(autoscaling))

    async def status(self, ref: DeploymentRef) -> DeploymentReport:
        async with named(within_seconds=ANSWER_SECONDS):
            app = await self._app(ref)
            server = await self._server(ref)
            settings = await server.autoscaler.settings.aio()
            return DeploymentReport(
                ref=ref,
                state=ReportedState.READY,
                autoscaling=Autoscaling(
                    min_containers=settings.min_containers or 0,
                    buffer_containers=settings.buffer_containers or 0,
                    max_containers=settings.max_containers or 0,
                    scaledown_window_seconds=settings.scaledown_window or 0,
                ),
                containers=tuple(await self._containers(app, server, ref)),
                forgets_stopped=True,
            )

    async def stop(self, ref: DeploymentRef) -> None:
        async with named(within_seconds=ANSWER_SECONDS):
            self._servers.pop(ref.name, None)
            # By its id: names of those whose deploy was cut off are not to be looked up.
            for app in await self._apps(ref.account_ref):
                if app.name == ref.name:
                    await app.stop.aio()

    async def deployments(self, account: AccountRef | None = None) -> Sequence[DeploymentRef]:
        async with named(within_seconds=REPORT_SECONDS):
            refs = []
            for app in await self._apps(account):
                tags = await app.get_tags.aio()
                if tags.get("warmline") == self._environment:
                    # Anybody may have written them in a workspace that is not the operator's.
                    worker, region, tenant = (tags.get(name, "") for name in ("worker", "region", "tenant"))
                    own = account.id if account else ""
                    refs.append(DeploymentRef(app.name or "", worker, region, tenant, own))
            return refs

    async def _apps(self, account: AccountRef | None) -> Sequence[modal.App]:
        """Return the Apps that bear names of this installation's; also those whose deploy was cut off."""
        name = self._installation.modal_environment
        client = await self._client(account)
        of = modal.Environment
        environment = of.from_name(name, client=client) if name else of.from_context(client=client)
        ours = f"{self._environment}-"
        return [app for app in await environment.apps.list.aio() if (app.name or "").startswith(ours)]

    # --- sessions ---------------------------------------------------------------------------------------------------
    async def start_session(
        self, ref: DeploymentRef, *, timeout_ms: int, idle_timeout_seconds: int = 30
    ) -> GrantedSession:
        began = time.monotonic()
        async with named(within_seconds=ANSWER_SECONDS):
            server = await self._server(ref)
            host = urlsplit(await server.get_url.aio() or "")
        async with named(within_seconds=timeout_ms / 1000 + ANSWER_SECONDS):
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    credentials = await server.sessions.start.aio(idle_timeout=idle_timeout_seconds)
            except TimeoutError as problem:
                raise SessionUnavailable("No container had room in time.") from problem
        return GrantedSession(
            ref=credentials.token,
            url=address_of(ref.worker, host.netloc, secure=host.scheme == "https"),
            headers={HEADER: f"Bearer {credentials.token}", SESSION_HEADER: credentials.session_id},
            container=None,
            reserve_ms=round((time.monotonic() - began) * 1000),
        )

    async def end_session(self, ref: DeploymentRef, session_ref: str) -> None:
        async with named(within_seconds=ANSWER_SECONDS):
            server = await self._server(ref)
            await server.sessions.terminate.aio(session_ref)

    async def prime(self, spec: DeploymentSpec, *, timeout_seconds: float) -> PrimingReport:
        deadline = time.monotonic() + timeout_seconds
        boots: list[str] = []
        boot_ms: list[float] = []
        while True:
            left_seconds = deadline - time.monotonic()
            try:
                container, boot, took_ms = await self._boot_seen(spec.ref, within_seconds=max(1.0, left_seconds))
            except SessionUnavailable:
                if not boots:
                    raise
                return PrimingReport(tuple(boots), tuple(boot_ms), is_done=False)
            boots.append(boot)
            boot_ms.append(took_ms)
            if not spec.snapshots or boot == BootKind.RESTORED:
                return PrimingReport(tuple(boots), tuple(boot_ms))
            # Snapshots are made at first boots: whether they can be restored shows in another container.
            async with named(within_seconds=ANSWER_SECONDS):
                await raw.stop_task.aio(await self._client(spec.ref.account_ref), container)
            if time.monotonic() > deadline:
                return PrimingReport(tuple(boots), tuple(boot_ms), is_done=False)

    async def _boot_seen(self, ref: DeploymentRef, *, within_seconds: float) -> tuple[str, str, float]:
        """Return which container a session was given, and how that one came up, in ms."""
        session = await self.start_session(ref, timeout_ms=round(within_seconds * 1000))
        try:
            told = await self.ask_worker(session)
        finally:
            await self.end_session(ref, session.ref)
        return str(told["container"]), str(told["boot"]), float(told["boot_ms"])

    # --- what it costs, what it said --------------------------------------------------------------------------------
    async def costs(
        self, since: datetime.datetime, until: datetime.datetime, account: AccountRef | None = None
    ) -> Sequence[BilledCost]:
        async with named(within_seconds=REPORT_SECONDS):
            return await read_report(await self._client(account), since, until, environment=self._environment)

    async def rates(self) -> Rates | None:
        async with named(within_seconds=ANSWER_SECONDS):
            return await read_rates(await self._client(None))

    async def account_name(self, credentials: Mapping[str, str]) -> str:
        async with named(within_seconds=ANSWER_SECONDS):
            return await name_of(Credentials.of(credentials))

    async def read_log(self, ref: DeploymentRef, container: str, *, max_bytes: int = 65_536) -> str:
        return ""

    # --- plumbing ---------------------------------------------------------------------------------------------------
    async def _client(self, account: AccountRef | None) -> modal.Client:
        """Return the connection to a tenant's own workspace, or to the operator's."""
        credentials = self._credentials if account is None else Credentials.of(await self._own.of(account))
        if not credentials.token_id or not credentials.token_secret:
            raise CredentialsRefused("There are no credentials for Modal: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET.")
        return await client_of(credentials)

    async def _app(self, ref: DeploymentRef) -> modal.App:
        """Return a deployment's App.

        Raises:
            DeploymentUnknown
        """
        try:
            return await modal.App.lookup.aio(
                ref.name,
                client=await self._client(ref.account_ref),
                environment_name=self._installation.modal_environment or None,
            )
        except modal.exception.NotFoundError as problem:
            self._servers.pop(ref.name, None)
            raise DeploymentUnknown(f"Modal has no deployment {ref.name}.") from problem

    async def _stands(self, ref: DeploymentRef) -> bool:
        """Return whether an App was deployed to its end: one whose deploy was cut off goes on being initialized."""
        try:
            app = await self._app(ref)
        except DeploymentUnknown:
            return False
        return (await app.info.aio(refresh=True)).lifecycle.state == modal.types.AppState.DEPLOYED

    async def _server(self, ref: DeploymentRef) -> modal.Server:
        """Return the handle of a deployment's Server, looked up once.

        Raises:
            DeploymentUnknown
        """
        client = await self._client(ref.account_ref)
        if ref.name not in self._servers or self._servers[ref.name][0] is not client:
            server = modal.Server.from_name(
                ref.name,
                SERVER_NAME,
                client=client,
                environment_name=self._installation.modal_environment or None,
            )
            try:
                await server.hydrate.aio()
            except modal.exception.NotFoundError as problem:
                raise DeploymentUnknown(f"Modal has no deployment {ref.name}.") from problem
            self._servers[ref.name] = client, server
        return self._servers[ref.name][1]

    async def _containers(self, app: modal.App, server: modal.Server, ref: DeploymentRef) -> list[ContainerReport]:
        """Return the running containers, as the SDK's own command line finds them."""
        tasks = await raw.running_tasks.aio(await self._client(ref.account_ref), app.app_id)
        serving = {container.container_id for container in await server._experimental_list_containers.aio()}
        return [
            ContainerReport(
                name=task.task_id,
                state=ContainerState.READY if task.task_id in serving else ContainerState.STARTING,
                started_at=datetime.datetime.fromtimestamp(task.started_at or task.enqueued_at, datetime.UTC),
                sessions=None,
            )
            for task in tasks
        ]

    async def ask_worker(self, session: GrantedSession) -> dict[str, Any]:
        """Return how the container of a session is: see gpu_workers.serving.Worker.status."""
        assert self._http is not None
        url = urlsplit(session.url)
        address = url._replace(scheme="https" if url.scheme in ("wss", "https") else "http", path="/status").geturl()
        async with (
            named(within_seconds=ANSWER_SECONDS),
            self._http.get(address, headers=session.headers, raise_for_status=True) as answer,
        ):
            document: dict[str, Any] = await answer.json()
            return document
