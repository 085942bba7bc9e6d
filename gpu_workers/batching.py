"""Many streams through one model: a thread that steps a batch once a frame, for all places that have something to step.

Knows nothing of models, sound or sockets: a `Batch` does the work of a step, a `Stream` is one place in it.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

logger = logging.getLogger(__name__)

QUEUED_FRAMES = 25
"""How many frames may wait in a stream before who sends them must wait, too."""
JOIN_TIMEOUT_SECONDS = 10.0


class Batch(Protocol):
    """A model with a fixed number of places, each with a state of its own. Only ever used in the stepper's thread."""

    places: int
    frame_seconds: float

    def join(self, place: int, opening: Any) -> bool:
        """Give a place to a new stream, with nothing left of the last one. Return whether it has steps to make first,
        before it takes any frame: a prompt."""

    def step(self, frames: dict[int, Any]) -> dict[int, Any]:
        """Step the given places, the others stand still. A frame of None is a step of a place's own, for its prompt.

        Return each place's output; none for a place that had nothing to say. `Prompted` ends a prompt.
        """


class Prompted:
    """The output of a place whose prompt has ended: from now on it takes frames."""


class NoPlace(Exception):
    """All places are taken."""


class BatchFailed(Exception):
    """A step failed: all streams have ended."""


@dataclasses.dataclass(slots=True)
class FrameTimes:
    """What the stepper tells of its work; called in its thread."""

    stepped: Callable[[float, int], None] = lambda seconds, places: None
    """Seconds that a step took, and how many places took part."""
    late: Callable[[], None] = lambda: None
    """A frame waited for longer than a frame takes."""


@dataclasses.dataclass(slots=True)
class _Frame:
    content: Any
    arrived_at: float


class Stream:
    """One place in the batch, for one session. Used in the event loop."""

    def __init__(self, stepper: Stepper, place: int, loop: asyncio.AbstractEventLoop, *, is_prompting: bool) -> None:
        self.place = place
        self.is_prompting = is_prompting
        self.waiting: collections.deque[_Frame] = collections.deque()
        self._stepper = stepper
        self._loop = loop
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def put(self, frame: Any) -> None:
        """Have a frame stepped; waits while too many are waiting already."""
        await self._has_room.wait()
        if len(self.waiting) + 1 >= QUEUED_FRAMES:
            self._has_room.clear()
        self._stepper._add(self, _Frame(frame, time.monotonic()))

    async def outputs(self) -> AsyncIterator[Any]:
        """Yield what the steps of this place give.

        Raises:
            BatchFailed
        """
        while True:
            output = await self._outputs.get()
            if isinstance(output, BatchFailed):
                raise output
            yield output

    def leave(self) -> None:
        """Give the place back. What is still waiting is not stepped."""
        self._stepper._leave(self)

    def deliver(self, output: Any) -> None:
        """Hand over an output, and let more frames in; called in the stepper's thread."""
        self._loop.call_soon_threadsafe(self._take, output)

    def _take(self, output: Any) -> None:
        if output is not None:
            self._outputs.put_nowait(output)
        if len(self.waiting) < QUEUED_FRAMES:
            self._has_room.set()


class Stepper:
    """Steps a batch at the pace of its frames, in a thread of its own.

    On each beat, once a frame, every stream that has a frame is stepped. Between two beats, frames that came in and
    prompts are stepped as long as that does not delay the beat: with few streams nobody waits for it, with many it is
    all there is. The beat starts with the first frame after a silence.
    """

    def __init__(self, batch: Batch, *, times: FrameTimes | None = None) -> None:
        self._batch = batch
        self._times = times or FrameTimes()
        self._streams: dict[int, Stream] = {}
        self._free = list(range(batch.places))
        self._joining: collections.deque[tuple[int, Any, Callable[[bool | Exception], None]]] = collections.deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._step_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    async def join(self, opening: Any) -> Stream:
        """Take a free place.

        Raises:
            NoPlace: all are taken.
            BatchFailed: the batch could not give it.
        """
        loop = asyncio.get_running_loop()
        joined: asyncio.Future[bool | Exception] = loop.create_future()

        def answer(result: bool | Exception) -> None:
            if not joined.done():
                joined.set_result(result)

        def tell(result: bool | Exception) -> None:
            loop.call_soon_threadsafe(answer, result)

        with self._changed:
            if not self._free or self._is_stopping:
                raise NoPlace
            place = self._free.pop(0)
            self._joining.append((place, opening, tell))
            self._changed.notify()
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_SECONDS):
                result = await joined
        except BaseException:
            self._give_back(place)
            raise
        if isinstance(result, Exception):
            self._give_back(place)
            raise BatchFailed(f"A place could not be given: {result}") from result
        stream = Stream(self, place, loop, is_prompting=result)
        with self._changed:
            self._streams[place] = stream
            self._changed.notify()
        return stream

    def stop(self) -> None:
        """End the thread; waits for the step under way."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout=JOIN_TIMEOUT_SECONDS)

    # From streams, in the event loop

    def _add(self, stream: Stream, frame: _Frame) -> None:
        with self._changed:
            stream.waiting.append(frame)
            self._changed.notify()

    def _leave(self, stream: Stream) -> None:
        with self._changed:
            if self._streams.get(stream.place) is stream:
                del self._streams[stream.place]
                self._free.append(stream.place)

    def _give_back(self, place: int) -> None:
        with self._changed:
            self._free.append(place)

    # In the thread

    def _run(self) -> None:
        beat_at = 0.0
        while True:
            with self._changed:
                while not (self._is_stopping or self._joining or self._has_work()):
                    self._changed.wait()
                    beat_at = 0.0
                if self._is_stopping:
                    return
                joining = list(self._joining)
                self._joining.clear()
            for place, opening, tell in joining:
                tell(self._join(place, opening))
            now = time.monotonic()
            if now >= beat_at:
                beat_at = max(beat_at, now - self._batch.frame_seconds) + self._batch.frame_seconds
                self._step(self._take())
            elif now + self._step_seconds <= beat_at and (frames := self._take()):
                self._step(frames)
            else:
                with self._changed:
                    if not (self._is_stopping or self._joining):
                        self._changed.wait(beat_at - now)

    def _has_work(self) -> bool:
        return any(stream.waiting or stream.is_prompting for stream in self._streams.values())

    def _join(self, place: int, opening: Any) -> bool | Exception:
        try:
            return self._batch.join(place, opening)
        except Exception as problem:
            logger.exception("a place could not be given")
            return problem

    def _take(self) -> dict[Stream, _Frame | None]:
        """Take what to step: a frame of each stream that has one, and a step of each prompt."""
        taken: dict[Stream, _Frame | None] = {}
        with self._changed:
            for stream in self._streams.values():
                if stream.is_prompting:
                    taken[stream] = None
                elif stream.waiting:
                    taken[stream] = stream.waiting.popleft()
        return taken

    def _step(self, taken: dict[Stream, _Frame | None]) -> None:
        if not taken:
            return
        began_at = time.monotonic()
        frames = {stream.place: frame.content if frame else None for stream, frame in taken.items()}
        try:
            outputs = self._batch.step(frames)
        except Exception as problem:
            logger.exception("a step failed")
            self._fail(BatchFailed(f"The model failed: {problem}"))
            return
        ended_at = time.monotonic()
        self._step_seconds = ended_at - began_at
        self._times.stepped(self._step_seconds, len(taken))
        for stream, frame in taken.items():
            if frame is not None and began_at - frame.arrived_at > self._batch.frame_seconds:
                self._times.late()
            output = outputs.get(stream.place)
            if output is Prompted:
                stream.is_prompting = False
                output = None
            stream.deliver(output)

    def _fail(self, problem: BatchFailed) -> None:
        """End all streams: a state that is half stepped is nobody's conversation."""
        with self._changed:
            streams = list(self._streams.values())
        for stream in streams:
            stream.waiting.clear()
            stream.is_prompting = False
            stream.deliver(problem)
