"""The stepper: one step for all who have a frame, places that come and go, and nobody held up by another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gpu_workers.batching import QUEUED_FRAMES, BatchFailed, FrameTimes, NoPlace, Prompted, Stepper

FRAME_SECONDS = 0.02


class CountingBatch:
    """Says of each frame which one it was in its place; a prompt is a number of steps."""

    frame_seconds = FRAME_SECONDS

    def __init__(self, places: int = 2, *, step_seconds: float = 0.0) -> None:
        self.places = places
        self.step_seconds = step_seconds
        self.steps: list[set[int]] = []
        self.threads: set[str] = set()
        self.counts = [0] * places
        self.prompts = [0] * places

    def join(self, place: int, opening: Any) -> bool:
        if opening == "fail":
            raise ValueError("as told")
        self.counts[place], self.prompts[place] = 0, opening or 0
        return bool(opening)

    def step(self, frames: dict[int, Any]) -> dict[int, Any]:
        self.threads.add(threading.current_thread().name)
        self.steps.append(set(frames))
        time.sleep(self.step_seconds)
        outputs: dict[int, Any] = {}
        for place, frame in frames.items():
            if frame == "break":
                raise ValueError("as told")
            if frame is None:
                self.prompts[place] -= 1
                if not self.prompts[place]:
                    outputs[place] = Prompted
                continue
            self.counts[place] += 1
            outputs[place] = (frame, self.counts[place])
        return outputs


@contextlib.asynccontextmanager
async def stepping(batch: CountingBatch, times: FrameTimes | None = None) -> AsyncIterator[Stepper]:
    stepper = Stepper(batch, times=times)
    try:
        yield stepper
    finally:
        stepper.stop()


async def take(stream: Any, count: int) -> list[Any]:
    outputs = []
    async with asyncio.timeout(10):
        async for output in stream.outputs():
            outputs.append(output)
            if len(outputs) == count:
                return outputs
    raise AssertionError("the outputs ended")


async def test_frames_are_stepped_in_order_outside_of_the_event_loop() -> None:
    batch = CountingBatch()
    async with stepping(batch) as stepper:
        stream = await stepper.join(None)
        for number in range(5):
            await stream.put(number)
        assert await take(stream, 5) == [(number, number + 1) for number in range(5)]
    assert batch.threads == {"model"}


async def test_streams_with_frames_are_stepped_together() -> None:
    batch = CountingBatch(places=4, step_seconds=FRAME_SECONDS)
    async with stepping(batch) as stepper:
        streams = [await stepper.join(None) for _ in range(4)]
        for number in range(10):
            for stream in streams:
                await stream.put(number)
        await asyncio.gather(*(take(stream, 10) for stream in streams))
    assert len(batch.steps) < 20 and {0, 1, 2, 3} in batch.steps


async def test_a_silent_stream_holds_nobody_up() -> None:
    batch = CountingBatch()
    async with stepping(batch) as stepper:
        await stepper.join(None)
        talking = await stepper.join(None)
        for number in range(10):
            await talking.put(number)
        assert len(await take(talking, 10)) == 10
    assert all(step == {1} for step in batch.steps)


async def test_all_places_taken_is_told_at_once_and_a_left_one_is_taken_again() -> None:
    async with stepping(CountingBatch()) as stepper:
        first, _ = await stepper.join(None), await stepper.join(None)
        with pytest.raises(NoPlace):
            await stepper.join(None)
        first.leave()
        first.leave()  # does nothing the second time
        again = await stepper.join(None)
        assert again.place == first.place
        with pytest.raises(NoPlace):
            await stepper.join(None)
        await again.put("new")
        assert await take(again, 1) == [("new", 1)]


async def test_frames_of_one_who_left_are_not_stepped() -> None:
    batch = CountingBatch(places=1, step_seconds=0.05)
    async with stepping(batch) as stepper:
        stream = await stepper.join(None)
        for number in range(10):
            await stream.put(number)
        await take(stream, 1)
        stream.leave()
        await asyncio.sleep(0)
        steps = len(batch.steps)
        other = await stepper.join(None)
        await other.put("other")
        assert await take(other, 1) == [("other", 1)]
    assert len(batch.steps) <= steps + 2


async def test_a_prompt_is_stepped_before_the_first_frame_and_others_go_on_meanwhile() -> None:
    batch = CountingBatch()
    async with stepping(batch) as stepper:
        talking = await stepper.join(None)
        prompted = await stepper.join(30)
        await prompted.put("hello")
        for number in range(5):
            await talking.put(number)
        assert len(await take(talking, 5)) == 5
        assert await take(prompted, 1) == [("hello", 1)]
    assert sum(1 in step for step in batch.steps) == 31


async def test_who_sends_too_much_waits_and_loses_nothing() -> None:
    async with stepping(CountingBatch()) as stepper:
        stream = await stepper.join(None)
        count = 3 * QUEUED_FRAMES

        async def send() -> None:
            for number in range(count):
                await stream.put(number)
                assert len(stream.waiting) <= QUEUED_FRAMES

        sending = asyncio.create_task(send())
        assert [frame for frame, _ in await take(stream, count)] == list(range(count))
        await sending


async def test_a_model_that_fails_ends_all_streams_with_a_reason_and_serves_new_ones() -> None:
    async with stepping(CountingBatch()) as stepper:
        one, other = await stepper.join(None), await stepper.join(None)
        await one.put("break")
        for stream in (one, other):
            with pytest.raises(BatchFailed, match="as told"):
                await take(stream, 1)
            stream.leave()
        again = await stepper.join(None)
        await again.put(1)
        assert await take(again, 1) == [(1, 1)]


async def test_a_place_that_cannot_be_given_is_told_and_stays_free() -> None:
    async with stepping(CountingBatch(places=1)) as stepper:
        with pytest.raises(BatchFailed, match="as told"):
            await stepper.join("fail")
        stream = await stepper.join(None)
        await stream.put(1)
        assert await take(stream, 1) == [(1, 1)]


async def test_late_frames_and_the_time_of_steps_are_counted() -> None:
    late, stepped = [], []
    times = FrameTimes(stepped=lambda seconds, places: stepped.append((seconds, places)), late=lambda: late.append(1))
    async with stepping(CountingBatch(step_seconds=3 * FRAME_SECONDS), times) as stepper:
        stream = await stepper.join(None)
        for number in range(4):
            await stream.put(number)
        await take(stream, 4)
    assert len(stepped) == 4 and all(seconds >= 3 * FRAME_SECONDS for seconds, _ in stepped)
    assert len(late) >= 2
