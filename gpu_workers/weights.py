"""Weights on a volume that all containers of a workspace read: which there are, where they lie, how they come there.

A checkpoint is named as its repository on the model hub, `kyutai/stt-1b-en_fr`, and lies in a folder of that name. A
list of its files is written beside them at the very end: a folder without it is what a broken-off download left.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import HfApi

VOLUME_NAME = "warmline-weights"
MOUNTED_AT = "/weights"
"""Where the volume is in a container."""

DEFAULT_CHECKPOINTS: Mapping[str, str] = {
    "moshi": "kyutai/moshiko-pytorch-bf16",
    "stt": "kyutai/stt-1b-en_fr",
    "tts": "kyutai/tts-1.6b-en_fr",
    "llm": "meta-llama/Llama-3.1-8B-Instruct",
}
"""What a pool runs that names no checkpoint. Kinds that are not here bring their models in their image."""

VOICES = {"tts": ("kyutai/tts-voices", "vctk/*.{signature}.safetensors")}
"""Where the voices of a kind are, and which of them are taken: those of the VCTK corpus (CC BY 4.0) for this model.
The signature is the checkpoint's `model_id`. They go into the checkpoint's folder `voices`."""

LEFT_OUT = ("*.md", ".git*", "*.gguf", "*.pth", "original/*", "*.png", "*.mp3")
"""What repositories hold for other programs than ours."""
LIST_NAME = "warmline.json"
DOWNLOADS_AT_A_TIME = 4
PROGRESS_SECONDS = 1.0


class WeightsUnavailable(RuntimeError):
    """A checkpoint is not on the volume, or cannot be had for it. The sentence says what to do."""


# --- where they lie --------------------------------------------------------------------------------------------------
def folder_of(checkpoint: str) -> Path:
    """Return where a checkpoint lies in this container.

    Raises:
        WeightsUnavailable: that is no name of one.
    """
    path = PurePosixPath(checkpoint)
    if not path.parts or path.is_absolute() or any(part.startswith(".") for part in path.parts):
        raise WeightsUnavailable(f"{checkpoint!r} names no checkpoint: name it as on the model hub, OWNER/NAME.")
    return Path(os.environ.get("WORKER_WEIGHTS_PATH") or MOUNTED_AT) / path


def find(checkpoint: str, *, worker: str) -> Path:
    """Return the folder of a checkpoint, having looked that all its files are there.

    Raises:
        WeightsUnavailable
    """
    folder = folder_of(checkpoint)
    try:
        files = json.loads((folder / LIST_NAME).read_text())["files"]
    except (OSError, ValueError, KeyError):
        raise WeightsUnavailable(missing(checkpoint, worker=worker)) from None
    for name, size in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise WeightsUnavailable(
                f"{checkpoint} on the volume lacks {name}: `{command(checkpoint, worker=worker)} --force` mends it."
            )
    return folder


def missing(checkpoint: str, *, worker: str) -> str:
    """Return a sentence for whoever looks after the installation."""
    return f"The weights {checkpoint} are not on the volume: `{command(checkpoint, worker=worker)}` stores them."


def command(checkpoint: str, *, worker: str) -> str:
    """Return what stores a checkpoint on the volume."""
    is_default = checkpoint == DEFAULT_CHECKPOINTS.get(worker)
    return f"manage.py fetch_weights --worker {worker}" + ("" if is_default else f" --checkpoint {checkpoint}")


def list_of(files: Mapping[str, int], *, sources: Sequence[str]) -> bytes:
    """Return the list of a checkpoint's files, with their sizes in bytes and where they come from."""
    return json.dumps({"sources": list(sources), "files": dict(sorted(files.items()))}, indent=1).encode()


def files_in(folder: Path) -> dict[str, int]:
    """Return the sizes of all that belongs to a checkpoint in a folder, by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.as_posix() != LIST_NAME and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = path.stat().st_size
    return found


# --- how they come there ---------------------------------------------------------------------------------------------
def download(*, kind: str, checkpoint: str, volume_id: str, anew: bool) -> Iterator[dict[str, Any]]:
    """Bring a checkpoint from the model hub onto the volume; yield `{"done_bytes", "total_bytes"}` all the while.

    Runs in a container that has the volume. What a broken-off download left is gone on with, or, `anew`, thrown away.

    Raises:
        WeightsUnavailable: the hub does not have it, or does not give it to us.
    """
    import modal
    from huggingface_hub import HfApi, errors

    folder = folder_of(checkpoint)
    api = HfApi()
    try:
        model = _Wanted.of(api, checkpoint, into=folder, patterns=("*",), left_out=LEFT_OUT)
        if anew:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LIST_NAME).unlink(missing_ok=True)
        yield from model.download(api)
        if kind == "moshi" and "config.json" not in model.sizes:
            from gpu_workers.moshi.checkpoint import first_config

            (folder / "config.json").write_text(json.dumps(first_config()))
        sources = [model.source]
        if kind in VOICES:
            repository, pattern = VOICES[kind]
            pattern = pattern.format(signature=_signature(folder))
            voices = _Wanted.of(api, repository, into=folder / "voices", patterns=(pattern,))
            yield from voices.download(api)
            sources.append(voices.source)
    except errors.GatedRepoError:
        raise WeightsUnavailable(
            f"The model hub gives {checkpoint} to those alone who have accepted its terms: accept them there, and set "
            "HF_TOKEN to a token of that account."
        ) from None
    except errors.RepositoryNotFoundError:
        raise WeightsUnavailable(
            f"The model hub knows no {checkpoint}, or shows it to nobody without a token: is HF_TOKEN set?"
        ) from None
    except WeightsUnavailable:
        raise
    except Exception as problem:
        # Of several libraries' kinds, which who asked may not know.
        told = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise WeightsUnavailable(f"The model hub did not give {checkpoint}: {told}") from problem
    for hidden in folder.rglob(".cache"):
        shutil.rmtree(hidden, ignore_errors=True)
    (folder / LIST_NAME).write_bytes(list_of(files_in(folder), sources=sources))
    modal.Volume.from_id(volume_id).commit()


def _signature(folder: Path) -> str:
    """Return what the names of a checkpoint's voices end with; of all voices where its configuration does not say."""
    try:
        model_id = json.loads((folder / "config.json").read_text())["model_id"]
        return f"{model_id['sig']}@{model_id['epoch']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "*"


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """Files of a repository, and the folder that they are to be in."""

    repository: str
    revision: str
    sizes: Mapping[str, int]
    into: Path

    @classmethod
    def of(
        cls, api: HfApi, repository: str, *, into: Path, patterns: Sequence[str], left_out: Sequence[str] = ()
    ) -> _Wanted:
        info = api.model_info(repository, files_metadata=True)
        sizes = {
            file.rfilename: file.size or 0
            for file in info.siblings or ()
            if _matches(file.rfilename, patterns) and not _matches(file.rfilename, left_out)
        }
        if not sizes:
            raise WeightsUnavailable(f"{repository} on the model hub holds nothing of {', '.join(patterns)}.")
        return cls(repository, info.sha or "main", sizes, into)

    @property
    def source(self) -> str:
        return f"{self.repository}@{self.revision}"

    def download(self, api: HfApi) -> Iterator[dict[str, Any]]:
        total_bytes = sum(self.sizes.values())
        yield {"done_bytes": 0, "total_bytes": total_bytes}
        threads = ThreadPoolExecutor(DOWNLOADS_AT_A_TIME, thread_name_prefix="download")
        try:
            getting = {threads.submit(self._get, api, name) for name in self.sizes if not self._is_here(name)}
            while getting:
                done, getting = wait(getting, timeout=PROGRESS_SECONDS)
                for each in done:
                    each.result()
                yield {"done_bytes": min(self._bytes_here(), total_bytes), "total_bytes": total_bytes}
        finally:
            threads.shutdown(cancel_futures=True)

    def _get(self, api: HfApi, name: str) -> None:
        api.hf_hub_download(self.repository, name, revision=self.revision, local_dir=self.into)

    def _is_here(self, name: str) -> bool:
        path = self.into / name
        return path.is_file() and path.stat().st_size == self.sizes[name]

    def _bytes_here(self) -> int:
        partly = sum(path.stat().st_size for path in self.into.glob(".cache/**/*.incomplete"))
        return sum(size for name, size in self.sizes.items() if self._is_here(name)) + partly


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
