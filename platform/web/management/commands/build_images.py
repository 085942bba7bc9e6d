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
        try:
            documents = async_to_sync(self._build_all)(options["worker"] or Worker.values, options["json"])
        except BackendError as problem:
            raise CommandError(problem.sentence) from problem
        if options["json"]:
            self.stdout.write(json.dumps(documents, indent=1))
        retry_pools(self, [each["worker"] for each in documents if each["state"] == "built"])

    async def _build_all(self, workers: list[str], as_json: bool) -> list[dict[str, Any]]:
        workspace = await open_workspace()
        return [await self._build(workspace, worker, as_json) for worker in workers]

    async def _build(self, workspace: Workspace, worker: str, as_json: bool) -> dict[str, Any]:
        name, began = images.image_name(worker), time.monotonic()
        if await workspace.has_image(name):
            self._tell(f"{name} is there already.", as_json)
            return {"worker": worker, "image": name, "state": "there", "seconds": 0.0}
        self._tell(f"{name}: building; the first time takes some minutes.", as_json)
        # Modal's SDK shows the build's log on the standard output, which is JSON's alone where it was asked for.
        with contextlib.nullcontext() if as_json else modal.enable_output():
            await workspace.build_image(worker)
        seconds = round(time.monotonic() - began, 1)
        self._tell(f"{name} is published, after {seconds:.0f} s.", as_json)
        return {"worker": worker, "image": name, "state": "built", "seconds": seconds}

    def _tell(self, sentence: str, as_json: bool) -> None:
        (self.stderr if as_json else self.stdout).write(sentence)
