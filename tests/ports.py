"""Ports for the processes of tests, each given out once: no two tests that run at a time are given the same one.

Each process of pytest has a part of them, since a draw by chance is no chance: pytest-randomly gives them all one seed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

FIRST, LAST = 22_000, 32_000
"""Below the ports that the system gives to connections, above those that the tests give to RTP."""
WORKERS = 8
_SLICE = (LAST - FIRST) // WORKERS
_HOSTS = ("127.0.0.1", "127.0.0.2")

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_begin = random.SystemRandom().randrange(0, _SLICE, 2)
_turns = itertools.count(0, 2)


def free_port() -> int:
    """Return an even port: it and the next are free for UDP and for TCP, and were given to nobody in this run."""
    for turn in itertools.islice(_turns, _SLICE // 2):
        port = FIRST + _worker * _SLICE + (_begin + turn) % _SLICE
        if _is_free(port) and _is_free(port + 1):
            return port
    raise OSError(f"none of {_SLICE} ports is free")


def _is_free(port: int) -> bool:
    with contextlib.ExitStack() as taken:
        try:
            for host in _HOSTS:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    taken.enter_context(socket.socket(socket.AF_INET, kind)).bind((host, port))
        except OSError:
            return False
    return True
