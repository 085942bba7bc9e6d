"""Storages that fail as real ones do, for gateways of the tests (RECORDINGS_STORAGE)."""

from __future__ import annotations

import errno
import time
from typing import Any

from django.core.files.storage import FileSystemStorage


class Full(FileSystemStorage):
    """Takes two files, and is full."""

    taken = 0

    def _save(self, name: str, content: Any) -> str:
        type(self).taken += 1
        if type(self).taken > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._save(name, content)


class Slow(FileSystemStorage):
    """Takes a file when nobody waits for it any more."""

    def _save(self, name: str, content: Any) -> str:
        time.sleep(3)
        return super()._save(name, content)
