"""Measure what docs/performance.md shows: `make bench`, or `python -m benchmarks [PART …] [--json]`.

Runs a demo of its own, on a folder that goes when it is done, and ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figure
from config.embedded import free_port
from tests.config.demos import Demo

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("boots", "turns", "overview", "ledgers")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    # Not with choices=: argparse then refuses an empty list.
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"There is no {', '.join(unknown)}: choose from {', '.join(PARTS)}.")

    os.environ.setdefault("WARMLINE_MODELS_DIR", str(ROOT / ".warmline" / "models"))
    figures = []
    with tempfile.TemporaryDirectory(prefix="warmline-bench-") as name:
        for figure in measure(Path(name), arguments.parts or PARTS):
            figures.append(figure)
            if not arguments.json:
                print(figure, flush=True)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=1))
    sys.exit(not all(figure.is_reached for figure in figures))


def measure(folder: Path, parts: Sequence[str]) -> Iterator[Figure]:
    ports = ["--port", str(free_port()), "--gateway-port", str(free_port())]
    with Demo(folder, *ports) as demo:
        yield Figure("first start of a demo, its databases made and filled", demo.until_ready(), unit="s")
        demo.press_ctrl_c()
    with Demo(folder, *ports) as demo:
        yield Figure("second start of a demo", demo.until_ready(), unit="s", goal=10)
        be_beside(demo)
        try:
            for part in parts:
                yield from importlib.import_module(f"benchmarks.{part}").measure()
        except Exception:
            demo.press_ctrl_c()
            print("\n".join(demo.lines), file=sys.stderr)
            raise
        demo.press_ctrl_c()


def be_beside(demo: Demo) -> None:
    """Be a process beside the demo, as its commands are."""
    os.environ.update(demo.variables, LOG_LEVEL="WARNING", DJANGO_SETTINGS_MODULE="config.settings")
    import django

    django.setup()


if __name__ == "__main__":
    main()
