"""Modal's gRPC service, as far as deploying and running Servers asks of it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

import grpclib
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib.server import Stream
from modal_proto import api_grpc, api_pb2

from tests.modal_server.containers import Fleet
from tests.modal_server.objects import Objects
from tests.modal_server.runs import Runs
from tests.modal_server.state import App, Server, State, Workspace, new_id

NOT_FOUND = grpclib.Status.NOT_FOUND
BUILDER_VERSION = "2025.06"


class Calls(Objects, Runs):
    """One method for each call that is answered, named as the call is; each takes a request, and who asks."""

    def __init__(self, state: State, fleet: Fleet) -> None:
        self._state, self._fleet = state, fleet

    # --- who asks ---------------------------------------------------------------------------------------------------
    def ClientHello(self, request: Empty, workspace: Workspace) -> Message:
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER_VERSION)

    def AuthTokenGet(self, request: Message, workspace: Workspace) -> Message:
        return api_pb2.AuthTokenGetResponse(token="auth")

    def WorkspaceNameLookup(self, request: Empty, workspace: Workspace) -> Message:
        return api_pb2.WorkspaceNameLookupResponse(username=workspace.name)

    def EnvironmentGetOrCreate(self, request: api_pb2.EnvironmentGetOrCreateRequest, workspace: Workspace) -> Message:
        name = request.deployment_name or "main"
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=f"en-{name}",
            metadata=api_pb2.EnvironmentMetadata(
                name=name, settings=api_pb2.EnvironmentSettings(image_builder_version=BUILDER_VERSION)
            ),
        )

    # --- Apps -------------------------------------------------------------------------------------------------------
    def AppGetByDeploymentName(self, request: api_pb2.AppGetByDeploymentNameRequest, workspace: Workspace) -> Message:
        app = workspace.app_named(request.name)
        return api_pb2.AppGetByDeploymentNameResponse(app_id=app.id if app else "")

    def AppGetOrCreate(self, request: api_pb2.AppGetOrCreateRequest, workspace: Workspace) -> Message:
        app = workspace.app_named(request.app_name)
        if app is None:
            raise grpclib.GRPCError(NOT_FOUND, f"App {request.app_name!r} not found.")
        return api_pb2.AppGetOrCreateResponse(app_id=app.id, handle_metadata=app.metadata())

    def AppCreate(self, request: api_pb2.AppCreateRequest, workspace: Workspace) -> Message:
        app = App(new_id("ap"), request.description, dict(request.tags), request.app_state)
        workspace.apps[app.id] = app
        return api_pb2.AppCreateResponse(app_id=app.id)

    def AppGetLayout(self, request: api_pb2.AppGetLayoutRequest, workspace: Workspace) -> Message:
        return api_pb2.AppGetLayoutResponse(app_layout=layout_of(workspace.apps[request.app_id]))

    def AppGetInfo(self, request: api_pb2.AppGetInfoRequest, workspace: Workspace) -> Message:
        return api_pb2.AppGetInfoResponse(info=workspace.apps[request.app_id].metadata())

    def AppHeartbeat(self, request: Message, workspace: Workspace) -> Message:
        return Empty()

    def AppClientDisconnect(self, request: api_pb2.AppClientDisconnectRequest, workspace: Workspace) -> Message:
        app = workspace.apps[request.app_id]
        is_cut_off = app.state == api_pb2.APP_STATE_INITIALIZING and not app.deploys
        if is_cut_off or app.state == api_pb2.APP_STATE_EPHEMERAL:
            app.state = api_pb2.APP_STATE_STOPPED
            self._fleet.end_calls(app)
        return Empty()

    def AppPublish(self, request: api_pb2.AppPublishRequest, workspace: Workspace) -> Message:
        app = workspace.apps[request.app_id]
        app.name, app.state = request.name or app.name, request.app_state
        app.tags = dict(request.tags) or app.tags
        app.deploys += 1
        self._fleet.tend()
        return api_pb2.AppPublishResponse(url=f"http://127.0.0.1/{app.id}", deployed_at=time.time())

    def AppStop(self, request: api_pb2.AppStopRequest, workspace: Workspace) -> Message:
        if request.app_id not in workspace.apps:
            raise grpclib.GRPCError(NOT_FOUND, "There is no such App.")
        workspace.apps[request.app_id].state = api_pb2.APP_STATE_STOPPED
        self._fleet.tend()
        return Empty()

    def AppList(self, request: api_pb2.AppListRequest, workspace: Workspace) -> Message:
        return api_pb2.AppListResponse(
            apps=[
                api_pb2.AppListResponse.AppListItem(
                    app_id=app.id, name=app.name, description=app.name, state=app.state, created_at=app.created_at
                )
                for app in workspace.apps.values()
            ]
        )

    def AppGetTags(self, request: api_pb2.AppGetTagsRequest, workspace: Workspace) -> Message:
        return api_pb2.AppGetTagsResponse(tags=workspace.apps[request.app_id].tags)

    # --- what an App is made of -------------------------------------------------------------------------------------
    def FunctionPrecreate(self, request: api_pb2.FunctionPrecreateRequest, workspace: Workspace) -> Message:
        function_id = request.existing_function_id or new_id("fu")
        return api_pb2.FunctionPrecreateResponse(
            function_id=function_id, handle_metadata=api_pb2.FunctionHandleMetadata(function_name=request.function_name)
        )

    def FunctionCreate(self, request: api_pb2.FunctionCreateRequest, workspace: Workspace) -> Message:
        app = workspace.apps[request.app_id]
        # An App with several GPUs to choose from tells its function once for each.
        data = request.function_data
        if not data.ranked_functions:
            data = api_pb2.FunctionData(
                ranked_functions=[api_pb2.FunctionData.RankedFunction(function=request.function)]
            )
        function = data.ranked_functions[0].function
        environment: dict[str, str] = {}
        for secret_id in function.secret_ids:
            environment.update(workspace.secrets[secret_id])
        server = Server(
            id=request.existing_function_id or new_id("fu"),
            name=function.function_name,
            app=app,
            data=data,
            secrets=environment,
            autoscaler=api_pb2.AutoscalerSettings(),
        )
        server.autoscaler.CopyFrom(function.autoscaler_settings)
        server.url = self._fleet.url_of(server) if function.is_server else ""
        app.servers[server.name] = server
        return api_pb2.FunctionCreateResponse(
            function_id=server.id, function=function, function_data=data, handle_metadata=server.handle()
        )

    def FunctionGet(self, request: api_pb2.FunctionGetRequest, workspace: Workspace) -> Message:
        app = workspace.app_named(request.app_name)
        server = app.servers.get(request.object_tag) if app and app.state == api_pb2.APP_STATE_DEPLOYED else None
        if server is None:
            raise grpclib.GRPCError(NOT_FOUND, f"{request.app_name!r} has no Server {request.object_tag!r}.")
        return api_pb2.FunctionGetResponse(function_id=server.id, handle_metadata=server.handle(), function=server.data)

    def ClassCreate(self, request: api_pb2.ClassCreateRequest, workspace: Workspace) -> Message:
        return api_pb2.ClassCreateResponse(class_id=new_id("cs"), handle_metadata=api_pb2.ClassHandleMetadata())

    def SecretGetOrCreate(self, request: api_pb2.SecretGetOrCreateRequest, workspace: Workspace) -> Message:
        secret_id = new_id("st")
        workspace.secrets[secret_id] = dict(request.env_dict)
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret_id)

    # --- a Server as it runs ----------------------------------------------------------------------------------------
    def FunctionGetFlashAuthToken(self, request: Message, workspace: Workspace) -> Message:
        return api_pb2.FunctionGetFlashAuthTokenResponse(token=self._fleet.server_token)

    def FunctionGetSchedulingParams(
        self, request: api_pb2.FunctionGetSchedulingParamsRequest, workspace: Workspace
    ) -> Message:
        return api_pb2.FunctionGetSchedulingParamsResponse(
            autoscaler_configuration=api_pb2.AutoscalerConfiguration(
                settings=self._server(workspace, request.function_id).autoscaler
            )
        )

    def FunctionUpdateSchedulingParams(
        self, request: api_pb2.FunctionUpdateSchedulingParamsRequest, workspace: Workspace
    ) -> Message:
        server = self._server(workspace, request.function_id)
        server.autoscaler.MergeFrom(request.settings)
        self._fleet.tend()
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=server.autoscaler)

    def FlashContainerList(self, request: api_pb2.FlashContainerListRequest, workspace: Workspace) -> Message:
        return api_pb2.FlashContainerListResponse(
            containers=[
                api_pb2.FlashContainerListResponse.Container(task_id=each.name, host=each.host, port=each.port)
                for each in self._fleet.containers
                if each.server.id == request.function_id and each.is_ready
            ]
        )

    def TaskList(self, request: api_pb2.TaskListRequest, workspace: Workspace) -> Message:
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(task_id=each.name, app_id=each.server.app.id, started_at=each.started_at)
                for each in self._fleet.containers
                if each.server.app.id in workspace.apps and request.app_id in ("", each.server.app.id)
            ]
        )

    def ContainerStop(self, request: api_pb2.ContainerStopRequest, workspace: Workspace) -> Message:
        self._fleet.stop(request.task_id)
        return api_pb2.ContainerStopResponse()

    def ContainerCheckpoint(self, request: api_pb2.ContainerCheckpointRequest, workspace: Workspace) -> Message:
        self._fleet.checkpoint(request.checkpoint_id)
        return Empty()

    def TaskResult(self, request: Message, workspace: Workspace) -> Message:
        return Empty()

    def ContainerServerLifecycleReady(self, request: Message, workspace: Workspace) -> Message:
        return Empty()

    # --- the bill ---------------------------------------------------------------------------------------------------
    def WorkspaceBillingReport(
        self, request: api_pb2.WorkspaceBillingReportRequest, workspace: Workspace
    ) -> list[Message]:
        lines: list[Message] = []
        for line in workspace.bill:
            item = api_pb2.WorkspaceBillingReportItem(
                object_id=line["object_id"], description=line["description"], cost=line["cost"], tags=line["tags"]
            )
            item.interval.FromJsonString(line["interval"])
            if request.start_timestamp.seconds <= item.interval.seconds < request.end_timestamp.seconds:
                lines.append(item)
        return lines

    def WorkspaceBillingRates(self, request: Message, workspace: Workspace) -> Message:
        return api_pb2.WorkspaceBillingRatesResponse(rates=workspace.rates)

    def _server(self, workspace: Workspace, function_id: str) -> Server:
        for app in workspace.apps.values():
            for server in app.servers.values():
                if server.id == function_id:
                    return server
        raise grpclib.GRPCError(NOT_FOUND, "There is no such Function.")


def layout_of(app: App) -> api_pb2.AppLayout:
    return api_pb2.AppLayout(
        objects=[
            api_pb2.Object(object_id=server.id, function_handle_metadata=server.handle())
            for server in app.servers.values()
        ],
        function_ids={server.name: server.id for server in app.servers.values()},
    )


def make_service(state: State, calls: Calls) -> api_grpc.ModalClientBase:
    """Return the service: every call is noted, may be made to fail, and is refused where nobody answers it."""
    methods = {name: _handler(name, state, calls) for name in api_grpc.ModalClientBase.__abstractmethods__}
    service: api_grpc.ModalClientBase = type("Service", (api_grpc.ModalClientBase,), methods)()
    return service


def _handler(name: str, state: State, calls: Calls) -> Callable[..., Any]:
    async def handle(self: Any, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        workspace = _who(state, stream.metadata)
        state.asked.append((name, request))
        if (injection := state.injections.get(name)) is not None and injection.times:
            injection.times -= 1
            await asyncio.sleep(injection.delay_seconds)
            if injection.status:
                details = None
                if injection.retry_after_seconds:
                    details = [api_pb2.RPCRetryPolicy(retry_after_secs=injection.retry_after_seconds)]
                raise grpclib.GRPCError(grpclib.Status[injection.status], injection.message, details)
        if (answer := getattr(calls, name, None)) is None:
            raise grpclib.GRPCError(grpclib.Status.UNIMPLEMENTED, f"{name} is not answered here.")
        told = answer(request, workspace)
        if inspect.isasyncgen(told):
            async for message in told:
                await stream.send_message(message)
            return
        if inspect.isawaitable(told):
            told = await told
        for message in [told] if isinstance(told, Message) else told:
            await stream.send_message(message)

    return handle


def _who(state: State, metadata: Any) -> Workspace:
    """Return the workspace of the credentials; containers have none, and act for the one that they belong to."""
    token_id, secret = metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret")
    if metadata.get("x-modal-client-type") == str(api_pb2.CLIENT_TYPE_CONTAINER):
        return Workspace("container")
    if not token_id or state.credentials.get(token_id) != secret:
        raise grpclib.GRPCError(grpclib.Status.UNAUTHENTICATED, "Token is invalid.")
    return state.workspace(state.workspace_names[token_id])
