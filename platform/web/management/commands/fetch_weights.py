"""`manage.py fetch_weights`: fill the volume of weights on Modal, from the model hub or a folder of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gpu_workers.weights import DEFAULT_CHECKPOINTS, WeightsUnavailable, folder_of
from provisioning.backends.contract import BackendError
from provisioning.backends.modal.workspace import Workspace
from web.modal_workspace import open_workspace, retry_pools

GIBIBYTE = 1 << 30


class Command(BaseCommand):
    help = "Store the weights of workers on the volume that they read on Modal. What is there is left alone."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = sorted(DEFAULT_CHECKPOINTS)
        parser.add_argument("--worker", nargs="+", choices=kinds, help="for these alone (default: all)")
        parser.add_argument("--checkpoint", help="weights other than the worker's own, named as on the model hub")
        parser.add_argument("--from", dest="folder", type=Path, help="upload this folder instead of downloading")
        parser.add_argument("--force", action="store_true", help="fetch again what is there")
        parser.add_argument("--json", action="store_true", help="print the checkpoints as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        self._progress = self.stderr if options["json"] else self.stdout
        workers = options["worker"] or list(DEFAULT_CHECKPOINTS)
        if (options["checkpoint"] or options["folder"]) and len(workers) != 1:
            raise CommandError("Say which worker --checkpoint or --from is for: --worker KIND.")
        if options["folder"] and not options["folder"].is_dir():
            raise CommandError(f"There is no folder {options['folder']}.")
        try:
            documents = async_to_sync(self._fetch_all)(workers, options)
        except WeightsUnavailable as problem:
            raise CommandError(str(problem)) from problem
        except BackendError as problem:
            raise CommandError(problem.sentence) from problem
        if options["json"]:
            self.stdout.write(json.dumps(documents, indent=1))
        retry_pools(self, [each["checkpoint"] for each in documents if each["state"] == "stored"])

    async def _fetch_all(self, workers: list[str], options: dict[str, Any]) -> list[dict[str, Any]]:
        workspace = await open_workspace()
        return [await self._fetch(workspace, worker, options) for worker in workers]

    async def _fetch(self, workspace: Workspace, worker: str, options: dict[str, Any]) -> dict[str, Any]:
        checkpoint = options["checkpoint"] or DEFAULT_CHECKPOINTS[worker]
        folder_of(checkpoint)  # a name that is none is told before anything is done
        document = {"worker": worker, "checkpoint": checkpoint, "state": "there"}
        if not options["force"] and await workspace.has_weights(checkpoint):
            self._progress.write(f"{checkpoint} is there already; --force fetches it again.")
            return document
        if options["folder"]:
            self._progress.write(f"{checkpoint}: uploading {options['folder']}.")
            size = await workspace.upload_weights(options["folder"], checkpoint)
            self._progress.write(f"{checkpoint} is stored, {_gibibytes(size)}.")
            return {**document, "state": "stored"}
        self._progress.write(f"{checkpoint}: a container downloads it from the model hub.")
        told = {"HF_TOKEN": settings.HF_TOKEN, "HF_ENDPOINT": settings.HF_ENDPOINT}
        await workspace.download_weights(
            worker,
            checkpoint,
            secrets={name: value for name, value in told.items() if value},
            tell=lambda progress: self._show(checkpoint, progress),
            anew=options["force"],
        )
        if sys.stderr.isatty():
            self.stderr.write("")
        self._progress.write(f"{checkpoint} is stored.")
        return {**document, "state": "stored"}

    def _show(self, checkpoint: str, progress: dict[str, int]) -> None:
        """Show how far a download is, in one line that changes, where somebody looks on."""
        if sys.stderr.isatty():
            done, total = progress["done_bytes"], progress["total_bytes"]
            self.stderr.write(f"\r{checkpoint}: {_gibibytes(done)} of {_gibibytes(total)}  ", ending="")


def _gibibytes(size: int) -> str:
    return f"{size / GIBIBYTE:.2f} GiB"
