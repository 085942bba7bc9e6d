"""End the workers of a supervisor that was killed: `python -m provisioning.backends.local.left_behind MARKER`.

Run as a process beside the supervisor, with a pipe from it as standard input; the pipe's end is the supervisor's.
Forked workers are no children of the supervisor: they are found by a marker in their environment, which forks inherit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "WARMLINE_SUPERVISOR"
PATIENCE_SECONDS = 10.0


def find_marked(is_ours: Callable[[str], bool]) -> list[int]:
    """Return the processes whose environment has a marker that `is_ours`."""
    prefix = f"{VARIABLE}=".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # Gone meanwhile, or somebody else's.
            continue
        if any(each.startswith(prefix) and is_ours(each[len(prefix) :].decode(errors="replace")) for each in variables):
            found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def end_marked(is_ours: Callable[[str], bool]) -> int:
    """Kill marked processes until there are none, and return how many there were."""
    ended: set[int] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    # Again and again: one of them may just be forking.
    while (marked := find_marked(is_ours)) and time.monotonic() < deadline:
        for pid in marked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended.update(marked)
        time.sleep(0.02)
    return len(ended)


def main() -> None:
    marker = sys.argv[1]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    end_marked(lambda found: found == marker)


if __name__ == "__main__":
    main()
