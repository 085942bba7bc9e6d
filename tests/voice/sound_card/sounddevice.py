"""A sound card for Moshi's own client, where there is none: it plays one file as the microphone, records to another.

A folder of its own, so that it stands on the import path of that client's process alone.
"""

from __future__ import annotations

import os
import threading
import time
import wave
from collections.abc import Callable
from typing import Any

import numpy

RATE_HZ = 24_000


class _Stream:
    """Calls back once for each block, in time, from a thread of its own."""

    def __init__(self, *, samplerate: float, channels: int, blocksize: int, callback: Callable[..., None]) -> None:
        assert (samplerate, channels) == (RATE_HZ, 1)
        self.blocksize = blocksize
        self.callback = callback
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Stream:
        self._thread.start()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._is_stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._is_stopping.wait(max(0.0, due - time.monotonic())):
            self.block()
            due += self.blocksize / RATE_HZ

    def block(self) -> None:
        raise NotImplementedError


class InputStream(_Stream):
    """Plays SOUND_CARD_PLAYS (24 kHz, mono, 16 bits), and silence after it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        with wave.open(os.environ["SOUND_CARD_PLAYS"]) as file:
            samples = numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        self._left = samples.astype(numpy.float32) / 32768

    def block(self) -> None:
        block, self._left = self._left[: self.blocksize], self._left[self.blocksize :]
        self.callback(numpy.pad(block, (0, self.blocksize - len(block)))[:, None], self.blocksize, None, None)


class OutputStream(_Stream):
    """Records to SOUND_CARD_RECORDS, block by block: whoever ends the client finds what it played."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._file = wave.open(os.environ["SOUND_CARD_RECORDS"], "wb")
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(RATE_HZ)

    def block(self) -> None:
        block = numpy.zeros((self.blocksize, 1), dtype=numpy.float32)
        self.callback(block, self.blocksize, None, None)
        self._file.writeframes((numpy.clip(block[:, 0], -1, 1) * 32767).astype("<i2").tobytes())

    def __exit__(self, *problem: Any) -> None:
        super().__exit__(*problem)
        self._file.close()
