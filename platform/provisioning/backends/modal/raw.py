"""What Modal's SDK asks for its own command line, and offers to nobody else: one call each, on the SDK's event loop."""

from __future__ import annotations

import modal
from modal._utils.async_utils import synchronizer
from modal_proto import api_pb2


@synchronizer.create_blocking
async def running_tasks(client: modal.Client, app_id: str) -> list[api_pb2.TaskStats]:
    """Return an App's containers, as `modal container list` does."""
    answer = await client._stub.TaskList(api_pb2.TaskListRequest(app_id=app_id))
    return list(answer.tasks)


@synchronizer.create_blocking
async def stop_task(client: modal.Client, task_id: str) -> None:
    """Stop one container; its sessions may end first. As `modal container stop` does."""
    await client._stub.ContainerStop(api_pb2.ContainerStopRequest(task_id=task_id, graceful=True))


@synchronizer.create_blocking
async def image_id(client: modal.Client, tag: str) -> str:
    """Return the id of a published image, as the deploy of an App that names it does.

    Raises:
        modal.exception.NotFoundError
    """
    answer = await client._stub.ImageGetByTag(api_pb2.ImageGetByTagRequest(tag=tag))
    return answer.image_id


def is_throttled(problem: Exception) -> bool:
    """Return whether a call was refused for being one too many just now, and not for a limit of the workspace."""
    details = getattr(problem, "_grpc_details", None) or ()
    return any(isinstance(each, api_pb2.RPCRetryPolicy) for each in details)
