"""Messages from one side to the other until the first side ends, as they are and with back-pressure.

Two connections of our own are spliced: each hands the other the bytes that came. Where the caller's is a foreign
server's, pumps carry one message at a time: awaiting `send` is the back-pressure.
It knows nothing of Django, GPUs or audio.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from voice.frames import Frames, Passage, lets_pass

Result = TypeVar("Result")


class Sink(Protocol):
    async def send(self, message: bytes) -> None: ...


async def splice(caller: Frames, worker: Frames, from_caller: Passage, from_worker: Passage) -> Frames:
    """Join two connections, and return the first that closes. Afterwards each keeps what comes."""
    first: asyncio.Future[Frames] = asyncio.get_running_loop().create_future()

    def closed(side: Frames) -> None:
        if not first.done():
            first.set_result(side)

    worker.pass_on_to(caller, from_worker)
    caller.pass_on_to(worker, from_caller)
    try:
        for side in (worker, caller):
            side.on_close = functools.partial(closed, side)
            if side.close_code is not None:
                closed(side)
        return await first
    finally:
        for side in (worker, caller):
            side.on_close = None
            side.pass_no_more()


async def pump(source: AsyncIterable[bytes], sink: Sink, passage: Passage) -> None:
    """Pass messages on until the source closes.

    Raises:
        SideLost: the sink has closed.
    """
    clock = time.monotonic
    async for message in source:
        arrived_at = clock()
        if lets_pass(passage, message, arrived_at):
            passage.waiting_since = arrived_at
            await sink.send(message)
            passage.waiting_since = None
            passage.departed(arrived_at, clock())


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
