"""The agent's voice at the pace of hearing, for carriers that are sent a packet every 20 ms. In real time."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from voice.telephony.g711 import FRAME_SAMPLES, FRAME_SECONDS, PCMA
from voice.telephony.pacing import Pacer


def frame(level: float) -> np.ndarray:
    return np.full(FRAME_SAMPLES, level, np.float32)


async def test_a_packet_goes_every_20_ms_and_silence_where_nothing_is_said() -> None:
    sent: list[tuple[float, bytes]] = []
    pacer = Pacer(PCMA, lambda packet, _: sent.append((time.monotonic(), packet)))
    running = asyncio.create_task(pacer.run())
    began = time.monotonic()
    for _ in range(10):
        pacer.put(frame(0.5))
    async with asyncio.timeout(5):
        await pacer.wait_until_sent()
    took_seconds = time.monotonic() - began
    running.cancel()
    assert [packet for _, packet in sent[:10]] == [PCMA.encode(frame(0.5))] * 10
    assert {packet for _, packet in sent[10:]} <= {PCMA.silence}
    assert took_seconds > 9 * FRAME_SECONDS


async def test_what_waits_is_forgotten_when_the_caller_interrupts() -> None:
    sent: list[bytes] = []
    pacer = Pacer(PCMA, lambda packet, _: sent.append(packet))
    for _ in range(100):
        pacer.put(frame(0.5))
    pacer.clear()
    running = asyncio.create_task(pacer.run())
    async with asyncio.timeout(5):
        await pacer.wait_until_sent()
        while len(sent) < 3:
            await asyncio.sleep(FRAME_SECONDS)
    running.cancel()
    assert set(sent) == {PCMA.silence}


def test_a_worker_that_sends_without_end_is_not_kept_in_memory() -> None:
    pacer = Pacer(PCMA, lambda packet, _: None)
    for _ in range(10_000):
        pacer.put(frame(0.5))
    assert len(pacer._queue) == 30 / FRAME_SECONDS
