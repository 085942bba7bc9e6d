"""Conventions of the house that a reviewer would otherwise have to remember."""

from __future__ import annotations

import ast
import importlib
import inspect
import platform as standard_library_platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = ROOT / "platform"
LAYERS = ["tenants", "billing", "agents", ("content", "provisioning"), "voice", "web"]
"""From the bottom up: an app may import those below it, and no others. Those in one pair do not know each other."""


def sources(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.py")) if "migrations" not in path.parts)


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rank(app: str) -> int | None:
    for position, layer in enumerate(LAYERS):
        if app == layer or (isinstance(layer, tuple) and app in layer):
            return position
    return None


def test_the_source_root_does_not_hide_the_standard_librarys_platform_module() -> None:
    assert not (PLATFORM / "__init__.py").exists()
    assert "python" in standard_library_platform.python_implementation().lower()


@pytest.mark.parametrize("app", [name for layer in LAYERS for name in ([layer] if isinstance(layer, str) else layer)])
def test_each_app_is_ours(app: str) -> None:
    assert Path(importlib.import_module(app).__file__).is_relative_to(PLATFORM)


DEPLOYED = ("modal_worker", "tokens", "images", "weights")
"""What a backend may know of the workers, which it puts onto other machines."""


def may_know(path: Path, module: str) -> bool:
    """Return whether a file of the platform may import this of the workers: the wire, and what a backend deploys."""
    is_deploying = path.is_relative_to(PLATFORM / "provisioning" / "backends" / "modal")
    if is_deploying and (
        module == "gpu_workers" or module.startswith(tuple(f"gpu_workers.{name}" for name in DEPLOYED))
    ):
        return True
    return module.startswith("gpu_workers.protocol")


def test_imports_between_apps_go_one_way() -> None:
    wrong = []
    for path in sources(PLATFORM):
        here = path.relative_to(PLATFORM).parts[0]
        if (own := rank(here)) is None:
            continue
        for module in imported_modules(path):
            app = module.split(".")[0]
            other = rank(app)
            if other is not None and app != here and other >= own:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
            if app == "gpu_workers" and here != "web" and not may_know(path, module):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_the_workers_do_not_know_django_or_the_platform() -> None:
    known = {name for layer in LAYERS for name in ([layer] if isinstance(layer, str) else layer)} | {"django", "config"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(ROOT / "gpu_workers")
        for module in sorted(imported_modules(path))
        if module.split(".")[0] in known
    ]
    assert wrong == []


def test_importing_the_workers_layer_loads_no_django() -> None:
    code = "import gpu_workers.protocol, gpu_workers.serving, sys; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_booleans_are_passed_by_name() -> None:
    """`f(True)` says nothing to who reads it: an argument whose default is a boolean is keyword-only."""
    wrong = []
    for folder in (PLATFORM, ROOT / "gpu_workers"):
        for path in sources(folder):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                positional = [*node.args.posonlyargs, *node.args.args]
                for argument, default in zip(positional[::-1], node.args.defaults[::-1], strict=False):
                    if isinstance(default, ast.Constant) and isinstance(default.value, bool):
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}({argument.arg}=…)")
    # Signatures that a framework dictates: Django's fields, its template tags, and members of an enumeration.
    dictated = ("contribute_to_class", "templatetags", "__new__")
    assert [each for each in wrong if not any(name in each for name in dictated)] == []


def test_every_model_can_be_named_in_a_sentence() -> None:
    ours = [model for model in apps.get_models() if inspect.getmodule(model).__file__.startswith(str(PLATFORM))]
    assert [model.__name__ for model in ours if "__str__" not in vars(model) and model.__name__ != "User"] == []


@pytest.mark.parametrize("folder", [path for path in (ROOT / "tests").rglob("*") if path.is_dir()], ids=str)
def test_every_folder_of_tests_is_a_package(folder: Path) -> None:
    if any(folder.glob("test_*.py")):
        assert (folder / "__init__.py").exists()
