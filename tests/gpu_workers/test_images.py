"""Workers' images: read on a laptop, named by what is in them, and complete."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_workers import images
from gpu_workers.images import PACKAGE, REQUIREMENTS, recipe_of
from gpu_workers.kinds import KINDS
from gpu_workers.weights import DEFAULT_CHECKPOINTS
from provisioning import prices

NAMES = "from gpu_workers import images, kinds; print(*(images.image_name(kind) for kind in kinds.KINDS))"
FOLDERS = {"tts": ("tts", "stt", "moshi"), "stt": ("stt", "moshi"), "moshi": ("moshi",)}
"""What a kind imports beside the package's own modules: its folder, and those that it builds on."""
PARTLY = {"torch", "moshi", "safetensors", "sentencepiece"}
"""What modules at the top of the package import that only the kinds of ENGINES use."""
MOUNTED = {"modal"}
"""What Modal itself puts into its containers."""


def names_in(checkout: Path) -> dict[str, str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{NAMES}\nimport sys; assert not {{'torch', 'django', 'numpy'}} & set(sys.modules)"],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.split(":")[0]: name for name in told.stdout.split()}


def test_an_image_is_named_by_what_is_in_it_and_needs_none_of_it_to_be_named(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "gpu_workers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    before = names_in(tmp_path)
    assert before == {name.split(":")[0]: name for name in map(images.image_name, KINDS)}
    (tmp_path / "requirements" / "llm.txt").write_text("vllm==0\n")
    others_packages = names_in(tmp_path)
    assert {name for name in before if before[name] != others_packages[name]} == {"warmline-llm"}
    with (tmp_path / "gpu_workers" / "line.py").open("a") as code:
        code.write("# a change\n")
    other_code = names_in(tmp_path)
    assert all(before[name] != other_code[name] for name in before)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_worker_imports_is_in_its_image(kind: str) -> None:
    installed = {
        name
        for each in recipe_of(kind).lists
        for name in re.findall(r"^([a-z0-9.-]+)==", (REQUIREMENTS / each).read_text(), re.MULTILINE)
    }
    distributions = importlib.metadata.packages_distributions()
    wanted = imported_by(kind) - MOUNTED - (set() if "engines.txt" in recipe_of(kind).lists else PARTLY)
    assert len(wanted) > 5
    missing = {
        module
        for module in wanted
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in distributions.get(module, [module])} & installed
    }
    assert missing == set()


def imported_by(kind: str) -> set[str]:
    folders = [PACKAGE / name for name in FOLDERS.get(kind, (kind,))]
    paths = [*PACKAGE.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"gpu_workers"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_begins_with_a_machine_that_has_a_price(kind: str) -> None:
    recipe = recipe_of(kind)
    gpus = [name.strip() for name in recipe.gpu.split(",") if name]
    assert recipe.kind == kind and set(gpus) <= set(prices.gpu_names())
    assert bool(gpus) == (kind in DEFAULT_CHECKPOINTS)


def test_the_installer_of_the_images_is_the_one_that_pinned_them() -> None:
    assert f"\nuv=={images.UV_VERSION} " in (REQUIREMENTS / "dev.txt").read_text()


def test_images_hold_the_versions_that_are_tested_here() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9.-]+==\S+", (REQUIREMENTS / name).read_text(), re.MULTILINE))

    assert pins("workers.txt") <= pins("base.txt")
