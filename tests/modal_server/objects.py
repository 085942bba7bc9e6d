"""What Apps are made of beside code: files that are mounted, images with their layers, and volumes with their files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import grpclib
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from modal_proto import api_pb2

from tests.modal_server.state import State, Workspace, new_id

NOT_FOUND = grpclib.Status.NOT_FOUND
BUILT = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


class Objects:
    """See `tests.modal_server.api.Calls`."""

    _state: State

    # --- files ------------------------------------------------------------------------------------------------------
    def MountGetOrCreate(self, request: api_pb2.MountGetOrCreateRequest, workspace: Workspace) -> Message:
        mount_id = new_id("mo")
        self._state.mounts[mount_id] = {file.filename: file.sha256_hex for file in request.files}
        return api_pb2.MountGetOrCreateResponse(mount_id=mount_id)

    def MountBatchedCheckExistence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, workspace: Workspace
    ) -> Message:
        missing = [each for each in request.sha256_hex_hashes if each not in self._state.contents]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    def MountPutFile(self, request: api_pb2.MountPutFileRequest, workspace: Workspace) -> Message:
        if request.data or request.sha256_hex == hashlib.sha256().hexdigest():
            self._state.contents[request.sha256_hex] = request.data
        return api_pb2.MountPutFileResponse(exists=request.sha256_hex in self._state.contents)

    # --- images -----------------------------------------------------------------------------------------------------
    def ImageGetOrCreate(self, request: api_pb2.ImageGetOrCreateRequest, workspace: Workspace) -> Message:
        """Return the image of a layer; one that was built before is the same one."""
        layer = api_pb2.Image()
        layer.CopyFrom(request.image)
        # What a mount is called differs each time: its files are what counts.
        files = self._state.mounts.get(layer.context_mount_id, {})
        layer.context_mount_id = ""
        key = hashlib.sha256(layer.SerializeToString(deterministic=True) + repr(sorted(files.items())).encode())
        image_id = f"im-{key.hexdigest()[:12]}"
        if image_id in workspace.built:
            return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=BUILT)
        self._state.layers[image_id] = layer
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id)

    def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, workspace: Workspace
    ) -> Iterator[api_pb2.ImageJoinStreamingResponse]:
        """Tell of each step of a layer, and how it ended."""
        failing = self._state.failing_build
        for number, step in enumerate(self._state.layers[request.image_id].dockerfile_commands):
            told = api_pb2.TaskLogs(data=f"=> {step}\n", file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT)
            yield api_pb2.ImageJoinStreamingResponse(task_logs=[told], entry_id=str(number))
            if failing and failing in step:
                failed = api_pb2.GenericResult(
                    status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception=f"{step!r} exited with 1."
                )
                yield api_pb2.ImageJoinStreamingResponse(result=failed, eof=True)
                return
        workspace.built.add(request.image_id)
        yield api_pb2.ImageJoinStreamingResponse(result=BUILT, eof=True)

    def ImagePublish(self, request: api_pb2.ImagePublishRequest, workspace: Workspace) -> Message:
        workspace.images[request.tag.rpartition("/")[2]] = request.image_id
        return api_pb2.ImagePublishResponse()

    def ImageGetByTag(self, request: api_pb2.ImageGetByTagRequest, workspace: Workspace) -> Message:
        name = request.tag.rpartition("/")[2]
        if name not in workspace.images:
            raise grpclib.GRPCError(NOT_FOUND, f"Image {name!r} not found.")
        return api_pb2.ImageGetByTagResponse(image_id=workspace.images[name])

    # --- volumes ----------------------------------------------------------------------------------------------------
    def VolumeGetOrCreate(self, request: api_pb2.VolumeGetOrCreateRequest, workspace: Workspace) -> Message:
        name = request.deployment_name
        if name not in workspace.volumes:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise grpclib.GRPCError(NOT_FOUND, f"Volume {name!r} not found.")
            self._state.add_volume(workspace, name)
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=workspace.volumes[name].id, metadata=api_pb2.VolumeMetadata(name=name)
        )

    def VolumeGetById(self, request: api_pb2.VolumeGetByIdRequest, workspace: Workspace) -> Message:
        return api_pb2.VolumeGetByIdResponse(
            volume_id=request.volume_id,
            metadata=api_pb2.VolumeMetadata(name=self._state.volume(request.volume_id).name),
        )

    def VolumePutFiles(self, request: api_pb2.VolumePutFilesRequest, workspace: Workspace) -> Message:
        folder = self._state.volume(request.volume_id).folder
        for file in request.files:
            path = folder / file.filename.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._state.contents[file.sha256_hex])
        return Empty()

    def VolumeListFiles(self, request: api_pb2.VolumeListFilesRequest, workspace: Workspace) -> list[Message]:
        top = self._state.volume(request.volume_id).folder
        folder = top / request.path.lstrip("/")
        if not folder.is_dir():
            raise grpclib.GRPCError(NOT_FOUND, f"{request.path} not found in the volume.")
        found = folder.rglob("*") if request.recursive else folder.iterdir()
        return [api_pb2.VolumeListFilesResponse(entries=[_entry(path, top) for path in sorted(found)])]

    def VolumeCommit(self, request: Message, workspace: Workspace) -> Message:
        return api_pb2.VolumeCommitResponse(skip_reload=True)


def _entry(path: Path, top: Path) -> api_pb2.FileEntry:
    kind = api_pb2.FileEntry.DIRECTORY if path.is_dir() else api_pb2.FileEntry.FILE
    stat = path.stat()
    return api_pb2.FileEntry(
        path=path.relative_to(top).as_posix(), type=kind, size=stat.st_size, mtime=int(stat.st_mtime)
    )
