"""`manage.py build_images`: build the workers' images on Modal and publish them: no tenant's deploy builds any."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import modal
from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gpu_workers import images
from provisioning.backends.contract import BackendError
from provisioning.backends.modal.workspace import Workspace
from provisioning.models.pools import Worker
from web.modal_workspace import open_workspace, retry_pools


class Command(BaseCommand):
    help = "Build and publish the workers' images of this code in the Modal workspace. What is there is left alone."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--worker", nargs="+", choices=Worker.values, help="these alone (default: all)")
        parser.add_argument("--json", action="store_true", help="print the images as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        self._progress = self.stderr if options["json"] else self.stdout
        try:
            documents = async_to_sync(self._build_all)(options["worker"] or Worker.values)
        except BackendError as problem:
            raise CommandError(problem.sentence) from problem
        if options["json"]:
            self.stdout.write(json.dumps(documents, indent=1))
        retry_pools(self, [each["image"] for each in documents if each["state"] == "built"])

    async def _build_all(self, workers: list[str]) -> list[dict[str, Any]]:
        workspace = await open_workspace()
        return [await self._build(workspace, worker) for worker in workers]

    async def _build(self, workspace: Workspace, worker: str) -> dict[str, Any]:
        name, began = images.image_name(worker), time.monotonic()
        if await workspace.has_image(name):
            self._progress.write(f"{name} is there already.")
            return {"worker": worker, "image": name, "state": "there", "seconds": 0.0}
        self._progress.write(f"{name}: building; the first time takes some minutes.")
        # Modal's SDK shows the build's log on the standard output, which is JSON's alone where it was asked for.
        with modal.enable_output() if self._progress is self.stdout else contextlib.nullcontext():
            await workspace.build_image(worker)
        seconds = round(time.monotonic() - began, 1)
        self._progress.write(f"{name} is published, after {seconds:.0f} s.")
        return {"worker": worker, "image": name, "state": "built", "seconds": seconds}
