"""A telephone of the tests: a leg whose other side is the test itself."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import numpy as np

from voice.telephony.bridge import Ending, Figures
from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, RATE_HZ, Samples
from voice.telephony.legs import Event, Key, Leg, Sound, TransferRefused


class Telephone(Leg):
    """Speaks and listens in real time."""

    codec = "PCMU"

    def __init__(self, *, refuses_transfer: bool = False) -> None:
        self.heard: list[tuple[float, Samples]] = []
        self.clears: list[float] = []
        self.hung_up = False
        self.transferred_to: str | None = None
        self._refuses_transfer = refuses_transfer
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._sequence = 0

    # --- the caller's side
    async def say(self, sound: Samples) -> None:
        """Speak, and return when that is over."""
        due = time.monotonic()
        for at in range(0, len(sound), FRAME_SAMPLES):
            frame = np.zeros(FRAME_SAMPLES, np.float32)
            frame[: len(sound[at : at + FRAME_SAMPLES])] = sound[at : at + FRAME_SAMPLES]
            self._events.put_nowait(Sound(self._sequence, self._sequence * FRAME_SAMPLES, frame, time.monotonic()))
            self._sequence += 1
            due += FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def be_silent(self, seconds: float) -> None:
        await self.say(np.zeros(int(seconds * RATE_HZ), np.float32))

    def press(self, digits: str) -> None:
        for digit in digits:
            self._events.put_nowait(Key(digit))

    def put_down(self) -> None:
        self._events.put_nowait(None)

    @property
    def loud_seconds(self) -> float:
        return sum(FRAME_SECONDS for _, frame in self.heard if np.abs(frame).max() > 0.05)

    # --- the bridge's side
    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def play(self, frame: Samples) -> None:
        self.heard.append((time.monotonic(), frame))

    async def clear(self) -> None:
        self.clears.append(time.monotonic())

    async def wait_until_played(self) -> None:
        pass

    async def hang_up(self) -> None:
        self.hung_up = True

    async def transfer(self, number: str) -> None:
        if self._refuses_transfer:
            raise TransferRefused("Nobody is there.")
        self.transferred_to = number


class Record:
    """Keeps what a bridge writes."""

    def __init__(self, *, transfer_to: str | None = None, words: bytes | None = None) -> None:
        self.transfer_to = transfer_to
        self.words = words
        self.call_id: uuid.UUID | None = None
        self.endings: list[Ending] = []
        self.figures: Figures | None = None

    async def began(self, call_id: uuid.UUID) -> None:
        self.call_id = call_id

    async def find_transfer(self) -> str | None:
        return self.transfer_to

    async def find_words(self, ending: Ending) -> bytes | None:
        return self.words

    async def ended(self, ending: Ending, figures: Figures) -> None:
        self.endings.append(ending)
        self.figures = figures
