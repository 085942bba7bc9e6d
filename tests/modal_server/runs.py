"""Functions that are called once: each call runs in a container of its own, which the SDK's entrypoint holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from modal_proto import api_pb2

from tests.modal_server.containers import Fleet
from tests.modal_server.state import FunctionCall, State, Workspace, new_id

POLL_SECONDS = 0.02


class Runs:
    """See `tests.modal_server.api.Calls`."""

    _state: State
    _fleet: Fleet

    def FunctionMap(self, request: api_pb2.FunctionMapRequest, workspace: Workspace) -> Message:
        (item,) = request.pipelined_inputs
        server = next(each for each in self._state.servers() if each.id == request.function_id)
        call = FunctionCall(new_id("fc"), server, item.input)
        self._state.calls[call.id] = call
        self._fleet.run(call)
        return api_pb2.FunctionMapResponse(
            function_call_id=call.id, pipelined_inputs=[api_pb2.FunctionPutInputsResponseItem(idx=0, input_id=call.id)]
        )

    async def AppGetLogs(self, request: api_pb2.AppGetLogsRequest, workspace: Workspace) -> AsyncIterator[Message]:
        """Say when an App has ended: what its containers print is in their folders."""
        for _ in range(round(request.timeout / POLL_SECONDS)):
            if workspace.apps[request.app_id].state == api_pb2.APP_STATE_STOPPED:
                yield api_pb2.TaskLogsBatch(app_done=True)
                return
            await asyncio.sleep(POLL_SECONDS)

    # --- the container's side ---------------------------------------------------------------------------------------
    def ContainerHello(self, request: Message, workspace: Workspace) -> Message:
        return Empty()

    def ContainerHeartbeat(self, request: Message, workspace: Workspace) -> Message:
        return api_pb2.ContainerHeartbeatResponse()

    def FunctionGetInputs(self, request: api_pb2.FunctionGetInputsRequest, workspace: Workspace) -> Message:
        """Give a container its one call, and then tell it to go."""
        for call in self._state.calls.values():
            if call.server.id == request.function_id and not call.is_taken:
                call.is_taken = True
                item = api_pb2.FunctionGetInputsItem(input_id=call.id, function_call_id=call.id, input=call.input)
                return api_pb2.FunctionGetInputsResponse(inputs=[item])
        return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])

    def FunctionCallPutDataOut(self, request: api_pb2.FunctionCallPutDataRequest, workspace: Workspace) -> Message:
        self._state.calls[request.function_call_id].chunks.extend(request.data_chunks)
        return Empty()

    def FunctionPutOutputs(self, request: api_pb2.FunctionPutOutputsRequest, workspace: Workspace) -> Message:
        for item in request.outputs:
            call = self._state.calls[item.input_id]
            call.output = api_pb2.FunctionGetOutputsItem(
                result=item.result, input_id=call.id, data_format=item.data_format
            )
        return Empty()

    # --- the caller's side ------------------------------------------------------------------------------------------
    async def FunctionCallGetDataOut(
        self, request: api_pb2.FunctionCallGetDataRequest, workspace: Workspace
    ) -> AsyncIterator[Message]:
        """Send what a generator has yielded, and wait for more until it has ended."""
        call, sent = self._state.calls[request.function_call_id], request.last_index
        while True:
            for chunk in [chunk for chunk in call.chunks if chunk.index > sent]:
                yield chunk
                sent = chunk.index
            if call.output is not None:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def FunctionGetOutputs(self, request: api_pb2.FunctionGetOutputsRequest, workspace: Workspace) -> Message:
        call = self._state.calls[request.function_call_id]
        for _ in range(round(request.timeout / POLL_SECONDS)):
            if call.output is not None:
                return api_pb2.FunctionGetOutputsResponse(outputs=[call.output])
            await asyncio.sleep(POLL_SECONDS)
        return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
