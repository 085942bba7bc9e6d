"""Messages from one side to the other until the first side ends, as they are and with back-pressure.

It knows nothing of Django, GPUs or audio. A pump holds one message at a time: awaiting `send` is the back-pressure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Sink(Protocol):
    async def send(self, message: bytes) -> None: ...


class Passage(Protocol):
    """What watches one direction: says what may pass, counts, keeps times. Called once per message, never waits."""

    def arrived(self, message: bytes, at: float) -> bool:
        """Return whether the message may pass. `at`: monotonic seconds."""

    def departed(self, message: bytes, arrived_at: float, at: float) -> None: ...


async def pump(source: AsyncIterable[bytes], sink: Sink, passage: Passage) -> None:
    """Pass messages on until the source closes.

    Raises:
        SideLost: the sink has closed.
    """
    clock = time.monotonic
    async for message in source:
        arrived_at = clock()
        if passage.arrived(message, arrived_at):
            await sink.send(message)
            passage.departed(message, arrived_at, clock())


async def run_until_first(parts: Mapping[str, Coroutine[Any, Any, Result]]) -> Result:
    """Run the parts of a call side by side and return what the first returned; the others are cancelled.

    Raises:
        What the first part raised.
    """
    tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # Where several ended at once the order of `parts` decides, and an error goes before an end.
        ended = [task for task in tasks if task in done]
        return next((task for task in ended if task.exception() is not None), ended[0]).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
