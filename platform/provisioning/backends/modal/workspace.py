"""What a workspace holds for all of its deployments: the workers' images, by name and version, and their weights."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import modal

from gpu_workers import images, weights
from provisioning.backends.contract import DeploymentSpec
from provisioning.backends.modal import raw
from provisioning.backends.modal.problems import ImageMissing, WeightsMissing, WeightsRefused, named

ASK_SECONDS = 15.0
BUILD_SECONDS = 3_600.0
DOWNLOAD_SECONDS = 4 * 3_600
DOWNLOAD_MEMORY_MIB = 8_192
APP_NAME = "warmline-setup"
"""Of the Apps that build and download. They are gone when that is done, or broken off."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workspace:
    """A connection to a workspace, and the environment in it that is ours; empty for its default."""

    client: modal.Client
    environment: str = ""

    # --- images -----------------------------------------------------------------------------------------------------
    async def has_image(self, name: str) -> bool:
        """Return whether an image of this name and version is published.

        Raises:
            BackendError
        """
        tag = f"{self.environment}/{name}" if self.environment else name
        async with named(within_seconds=ASK_SECONDS):
            try:
                return bool(await raw.image_id.aio(self.client, tag))
            except modal.exception.NotFoundError:
                return False

    async def build_image(self, worker: str) -> str:
        """Build and publish a worker's image of this code, and return its name; layers that are there are not built.

        Raises:
            BackendError: ImageBuildFailed among them.
        """
        name = images.image_name(worker)
        app = modal.App(APP_NAME, include_source=False)
        async with (
            named(within_seconds=BUILD_SECONDS),
            app.run.aio(client=self.client, environment_name=self._environment),
        ):
            image = await images.recipe_of(worker).image.build.aio(app)
            await image.publish.aio(name, environment_name=self._environment, client=self.client)
        return name

    # --- weights ----------------------------------------------------------------------------------------------------
    async def has_weights(self, checkpoint: str) -> bool:
        """Return whether a checkpoint is on the volume, to its last file.

        Raises:
            BackendError
        """
        async with named(within_seconds=ASK_SECONDS):
            try:
                listed = await self._volume().listdir.aio("/", recursive=True)
            except modal.exception.NotFoundError:  # of the volume
                return False
        return any(entry.path.lstrip("/") == f"{checkpoint}/{weights.LIST_NAME}" for entry in listed)

    async def download_weights(
        self,
        worker: str,
        checkpoint: str,
        *,
        secrets: Mapping[str, str],
        tell: Callable[[dict[str, int]], None],
        anew: bool = False,
    ) -> None:
        """Have a container bring a checkpoint from the model hub onto the volume.

        Args:
            secrets: what that one container is told, such as HF_TOKEN.
            tell: called all the while with `{"done_bytes", "total_bytes"}`; after a model come its voices.

        Raises:
            BackendError: ImageMissing and WeightsRefused among them.
        """
        name = images.image_name(worker)
        if not await self.has_image(name):
            raise ImageMissing(name)
        volume = self._volume(create_if_missing=True)
        app = modal.App(APP_NAME, include_source=False)
        function: Any = app.function(
            image=modal.Image.from_name(name, environment_name=self._environment),
            volumes={weights.MOUNTED_AT: volume},
            secrets=[modal.Secret.from_dict(dict(secrets))],
            cpu=2.0,
            memory=DOWNLOAD_MEMORY_MIB,
            timeout=DOWNLOAD_SECONDS,
        )(weights.download)
        async with (
            named(within_seconds=DOWNLOAD_SECONDS),
            app.run.aio(client=self.client, environment_name=self._environment),
        ):
            asked = function.remote_gen.aio(kind=worker, checkpoint=checkpoint, volume_id=volume.object_id, anew=anew)
            try:
                async for progress in asked:
                    tell(progress)
            except weights.WeightsUnavailable as problem:
                raise WeightsRefused(str(problem)) from problem

    async def upload_weights(self, folder: Path, checkpoint: str) -> int:
        """Put the checkpoint of a folder of this machine onto the volume, all of it or nothing; return its bytes.

        Raises:
            BackendError
        """
        files = weights.files_in(folder)
        if not files:
            raise WeightsRefused(f"{folder} holds no files.")
        listed = weights.list_of(files, sources=["uploaded"])
        async with named(within_seconds=DOWNLOAD_SECONDS):
            volume = self._volume(create_if_missing=True)
            await volume.hydrate.aio(self.client)
            async with volume.batch_upload.aio(force=True) as batch:
                for name in files:
                    batch.put_file(folder / name, f"/{checkpoint}/{name}")
                batch.put_file(io.BytesIO(listed), f"/{checkpoint}/{weights.LIST_NAME}")
        return sum(files.values())

    # --- before a deploy --------------------------------------------------------------------------------------------
    async def check(self, spec: DeploymentSpec) -> None:
        """See that what a specification names is there: else its containers would tell, one after the other.

        Raises:
            ImageMissing, WeightsMissing
        """
        if not await self.has_image(spec.image):
            raise ImageMissing(spec.image)
        if spec.checkpoint and not await self.has_weights(spec.checkpoint):
            raise WeightsMissing(spec.checkpoint, worker=spec.worker)

    def _volume(self, *, create_if_missing: bool = False) -> modal.Volume:
        return modal.Volume.from_name(
            weights.VOLUME_NAME,
            client=self.client,
            environment_name=self._environment,
            create_if_missing=create_if_missing,
        )

    @property
    def _environment(self) -> str | None:
        return self.environment or None
