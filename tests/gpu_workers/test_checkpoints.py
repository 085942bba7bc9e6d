"""Workers that need a checkpoint, started without a good one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.gpu_workers.worker_processes import ROOT, environment


@pytest.mark.parametrize("kind", ["moshi", "stt", "tts"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [([], "needs the folder of a checkpoint"), (["--checkpoint", "/nowhere"], "holds no config.json")],
)
def test_a_worker_without_its_checkpoint_says_so(kind: str, arguments: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpu_workers", kind, "--port", "0", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert sentence in done.stderr.splitlines()[-1]
    assert not done.stdout
