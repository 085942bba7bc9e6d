"""The agent's voice on its way out: order, pace, and what stopping takes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import sphn

from gpu_workers import protocol
from gpu_workers.playout import FRAME_SAMPLES, LEAD_SECONDS, Playout


class Receiver:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.has_five = asyncio.Event()

    async def send(self, message: bytes) -> None:
        self.messages.append(message)
        if len(self.messages) == 5:
            self.has_five.set()

    def samples(self) -> np.ndarray:
        reader = sphn.OpusStreamReader(protocol.SAMPLE_RATE_HZ)
        return np.concatenate([reader.append_bytes(message[1:]) for message in self.messages])


@contextlib.asynccontextmanager
async def playing() -> AsyncIterator[tuple[Playout, Receiver]]:
    receiver = Receiver()
    with ThreadPoolExecutor(1) as threads:
        playout = Playout(receiver.send, threads)
        task = asyncio.create_task(playout.run())
        yield playout, receiver
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reached(playout: Playout) -> int:
    """Wait until all that is queued was sent; return the index of the last message."""
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def set_result(message: int) -> None:
        sent.set_result(message)

    playout.mark(set_result)
    return await asyncio.wait_for(sent, timeout=10)


def loud(seconds: float) -> np.ndarray:
    return np.sin(np.arange(int(seconds * protocol.SAMPLE_RATE_HZ)) * 0.2).astype(np.float32)


async def test_marks_are_reached_in_order_with_the_message_that_carried_what_was_before_them() -> None:
    order: list[tuple[str, int]] = []

    async with playing() as (playout, receiver):

        def note(name: str):
            async def append(message: int) -> None:
                order.append((name, message))

            return append

        playout.mark(note("nothing yet"))
        playout.put(loud(0.04))
        playout.mark(note("first frame"))
        playout.put(loud(0.03))
        playout.mark(note("inside a frame"))
        playout.put(loud(0.05))
        assert await reached(playout) == 2
        assert order == [("nothing yet", -1), ("first frame", 0), ("inside a frame", 1)]
        assert len(receiver.messages) == playout.messages_sent == 3


async def test_a_mark_inside_speech_puts_no_gap_into_it() -> None:
    async with playing() as (playout, receiver):

        async def ignore(message: int) -> None:
            pass

        for piece in np.array_split(loud(0.26), 20):
            playout.put(piece)
            playout.mark(ignore)
        await reached(playout)
        assert len(receiver.messages) == 7
        periods = receiver.samples()[FRAME_SAMPLES : 6 * FRAME_SAMPLES].reshape(-1, 60)
        assert np.abs(periods).max(axis=1).min() > 0.8


async def test_stopping_takes_back_all_but_the_lead() -> None:
    async with playing() as (playout, receiver):
        playout.put(loud(5))
        await asyncio.wait_for(receiver.has_five.wait(), timeout=5)
        playout.stop()
        sent = len(receiver.messages)
        assert playout.unheard_seconds <= LEAD_SECONDS + 0.05
        await reached(playout)
        assert len(receiver.messages) <= sent + 1


async def test_speech_after_a_silence_starts_at_once() -> None:
    async with playing() as (playout, receiver):
        playout.put(loud(0.2))
        await reached(playout)
        took_seconds = []
        for _ in range(3):  # of which a busy machine may hold up one
            await asyncio.sleep(playout.unheard_seconds)
            began_at = time.monotonic()
            playout.put(loud(0.12))
            await reached(playout)
            took_seconds.append(time.monotonic() - began_at)
        assert min(took_seconds) < 0.1
