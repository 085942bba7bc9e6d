"""How workers run on rented machines: their images and versions, and what a pool of them begins with.

Each kind says so in its `serve.py`. Nothing is built here, and nothing of what workers need is imported: a laptop that
has none of it can read all this, and build the images elsewhere (`manage.py build_images`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import modal

from gpu_workers import __version__

PACKAGE = Path(__file__).resolve().parent
REQUIREMENTS = PACKAGE.parent / "requirements"
"""In a checkout alone: who builds images has one."""
WORKERS = ("workers.txt",)
ENGINES = ("engines.txt", "torch-gpu.txt", "engines-cuda.txt")
"""On top of WORKERS, for the kinds that step a batch of a model of Moshi's kind."""
PYTHON = "3.11"
UV_VERSION = "0.13.9"
"""Of the installer in the images; that of requirements/dev.txt."""
SOURCE = "/root"
"""Where Modal's containers look for packages of ours."""
NOT_CODE = ("**/__pycache__", "**/*.pyc", "**/.*")
VERSION_CHARACTERS = 12


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """One kind of worker on a rented machine. All but the image are what its pools begin with."""

    kind: str
    lists: Sequence[str]
    """Files of `requirements/` that its image is made of."""
    image: modal.Image
    gpu: str
    """One, or several by preference: "L4, A10". Empty for CPU alone."""
    cpu_millicores: int
    memory_mib: int
    sessions_per_container: int
    startup_timeout_seconds: int
    """From an empty machine to the first session: weights are read from a volume."""


def recipe_of(kind: str) -> Recipe:
    """Return what the `serve.py` of a kind says."""
    recipe: Recipe = importlib.import_module(f"gpu_workers.{kind}.serve").RECIPE
    return recipe


# --- versions --------------------------------------------------------------------------------------------------------
@functools.cache
def image_name(kind: str) -> str:
    """Return the name and version under which the image of this code is published: `warmline-moshi:0.1.0-5b1d…`.

    The version follows from everything that is put into the image, so that other code is never run under its name.

    Raises:
        FileNotFoundError: this is no checkout.
    """
    if not REQUIREMENTS.is_dir():
        raise FileNotFoundError(f"{REQUIREMENTS} is missing: images are named by all that is in them.")
    content = hashlib.sha256()
    for path in (*_package_files(), *(REQUIREMENTS / name for name in recipe_of(kind).lists)):
        name = path.relative_to(PACKAGE.parent).as_posix()
        content.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return f"warmline-{kind}:{__version__}-{content.hexdigest()[:VERSION_CHARACTERS]}"


def _package_files() -> Iterator[Path]:
    yield from sorted(
        path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc" and not _is_hidden(path)
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(PACKAGE).parts)


# --- what images are made of -----------------------------------------------------------------------------------------
def with_packages(*lists: str, on: modal.Image | None = None) -> modal.Image:
    """Return an image with the packages of these lists and no others: they are complete, and each has its hash."""
    return (on or modal.Image.debian_slim(PYTHON)).uv_pip_install(
        requirements=[str(REQUIREMENTS / name) for name in lists],
        extra_options="--require-hashes --no-deps",
        uv_version=UV_VERSION,
    )


def with_source(image: modal.Image) -> modal.Image:
    """Return an image that has this package too, compiled: the last layer, as it changes most often."""
    return image.add_local_dir(PACKAGE, f"{SOURCE}/gpu_workers", copy=True, ignore=NOT_CODE).run_commands(
        f"python -m compileall -q --invalidation-mode unchecked-hash {SOURCE}/gpu_workers"
    )
