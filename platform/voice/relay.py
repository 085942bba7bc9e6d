"""Messages from one side to the other until the first side ends, as they are and with back-pressure.

Two connections of our own are spliced: each hands the other the bytes that came. Where the caller's is a foreign
server's, pumps carry one message at a time: awaiting `send` is the back-pressure.
It knows nothing of Django, GPUs or audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterable, Awaitable, Coroutine, Mapping
from typing import Protocol, TypeVar

from gpu_workers.protocol import CloseCode
from voice.frames import Frames, Passage, SideClosed, lets_pass

Result = TypeVar("Result")


class Sink(Protocol):
    async def send(self, message: bytes) -> None: ...


class Look(Protocol):
    """What wants to see the first messages of one direction."""

    is_over: bool

    def look(self, message: bytes) -> None: ...


async def splice(
    caller: Frames,
    worker: Frames,
    from_caller: Passage,
    from_worker: Passage,
    *,
    at_caller: Look | None = None,
    at_worker: Look | None = None,
) -> Frames:
    """Join two connections, and return the first that closes. Afterwards each keeps what comes.

    Args:
        at_caller, at_worker: see the first messages of a side, which pass one by one for as long.
    """
    first: asyncio.Future[Frames] = asyncio.get_running_loop().create_future()

    def closed(side: Frames) -> None:
        if not first.done():
            first.set_result(side)

    beginnings: dict[Frames, asyncio.Task[None]] = {}
    for source, sink, passage, look in (
        (worker, caller, from_worker, at_worker),
        (caller, worker, from_caller, at_caller),
    ):
        if look is None or look.is_over:
            source.pass_on_to(sink, passage)
        else:
            beginnings[source] = asyncio.create_task(_begin(source, sink, passage, look), name="begin")
    try:
        for side in (worker, caller):
            side.on_close = functools.partial(closed, side)
            if side.close_code is not None:
                closed(side)
        side = await first
        if side in beginnings:  # what it said before it closed
            await beginnings[side]
        return side
    finally:
        for beginning in beginnings.values():
            beginning.cancel()
        await asyncio.gather(*beginnings.values(), return_exceptions=True)
        for side in (worker, caller):
            side.on_close = None
            side.pass_no_more()


async def _begin(source: Frames, sink: Frames, passage: Passage, look: Look) -> None:
    """Pass messages one by one while somebody looks at them, from then on as the bytes that come."""
    with contextlib.suppress(SideClosed):  # which its `on_close` tells
        while not look.is_over and (message := await source.receive()) is not None:
            if isinstance(message, bytes):
                await _pass(message, sink, passage, look)
            elif not source.masks:  # a worker's text is discarded like unknown kinds
                return source.fail(CloseCode.UNSUPPORTED_DATA)
        source.pass_on_to(sink, passage)


async def pump(source: AsyncIterable[bytes], sink: Sink, passage: Passage, look: Look | None = None) -> None:
    """Pass messages on until the source closes.

    Raises:
        SideLost: the sink has closed.
    """
    async for message in source:
        await _pass(message, sink, passage, look)


async def _pass(message: bytes, sink: Sink, passage: Passage, look: Look | None) -> None:
    arrived_at = time.monotonic()
    if lets_pass(passage, message, arrived_at):
        if look is not None:
            look.look(message)
        passage.waiting_since = arrived_at
        await sink.send(message)
        passage.waiting_since = None
        passage.departed(arrived_at, time.monotonic())


async def run_until_first(parts: Mapping[str, Awaitable[Result]]) -> Result:
    """Run the parts of a call side by side and return what the first returned; the others are cancelled.

    Raises:
        What the first part raised.
    """
    tasks = [
        asyncio.create_task(part, name=name) if isinstance(part, Coroutine) else asyncio.ensure_future(part)
        for name, part in parts.items()
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # Where several ended at once the order of `parts` decides, and an error goes before an end.
        ended = [task for task in tasks if task in done]
        return next((task for task in ended if task.exception() is not None), ended[0]).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
