"""Recording a call beside it: what passes is noted, and written to storage by threads a few seconds later.

A call never waits for its recording. Where storage is slow or full, or more passes than anybody says, the recording
stops with a sentence on why, and the call goes on.
See also: content.recordings, where it is written; voice.muxing, which makes one file of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from psycopg_pool import AsyncConnectionPool

from content.keys import TenantKeyDeleted
from content.recordings import AGENT, CALLER, Entry, begin_recording, stop_recording, write_part
from tenants.scope import enter_tenant_async
from voice import metrics
from voice.calls import DATABASE_AWAY
from voice.metering import Counts
from voice.options import Options
from voice.shares import connection_of

log = structlog.get_logger(__name__)

MOST_WAITING_BYTES = 512 * 1024
"""Of one call, not yet written: half a minute of what clients send, and more."""
MOST_BYTES = 64 * 1024 * 1024
"""Of one call: two hours, both directions."""
THREADS = 4
ENTRY_OVERHEAD_BYTES = 64

TOO_SLOW = "The storage took too long: the rest of the call was not recorded."
REFUSED = "The storage took no more: the rest of the call was not recorded."
TOO_MUCH = "More came than can be recorded: the rest of the call was not."


def is_recorded(config: Mapping[str, Any]) -> bool:
    """Return whether an agent's configuration has its calls recorded."""
    return bool(config.get("recording", {}).get("enabled"))


class Recordings:
    """What the recordings of this process share."""

    def __init__(self, pool: AsyncConnectionPool[Any], options: Options) -> None:
        self.pool = pool
        self.options = options
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="recording")

    async def begin(
        self,
        config: Mapping[str, Any],
        *,
        tenant_id: uuid.UUID,
        call_id: uuid.UUID,
        began: float,
        from_caller: Counts,
        from_worker: Counts,
    ) -> Recorder | None:
        """Record a call from now on, if its agent says so; None where it does not, or where it cannot be.

        Args:
            began: when the call's request was received, in monotonic seconds: the beginning of the recording's time.
        """
        if not is_recorded(config):
            return None
        try:
            async with (
                asyncio.timeout(self.options.database_seconds),
                connection_of(self.pool, tenant_id) as connection,
                connection.transaction(),
            ):
                await enter_tenant_async(connection, tenant_id)
                key = await begin_recording(
                    connection, tenant_id=tenant_id, call_id=call_id, keep_days=config["recording"].get("keep_days")
                )
        except (*DATABASE_AWAY, TenantKeyDeleted) as problem:
            log.warning("recording.not_begun", problem=repr(problem))
            return None
        return Recorder(self, key, tenant_id, call_id, began, from_caller, from_worker)


class Recorder:
    """The recording of one call. It listens to both directions until it is finished, or gives up."""

    def __init__(
        self,
        recordings: Recordings,
        key: bytes,
        tenant_id: uuid.UUID,
        call_id: uuid.UUID,
        began: float,
        from_caller: Counts,
        from_worker: Counts,
    ) -> None:
        self.problem = ""
        self._shared = recordings
        self._key = key
        self._tenant_id = tenant_id
        self._call_id = call_id
        self._began = began
        self._passages = (from_caller, from_worker)
        self._waiting: list[Entry] = []
        self._waiting_bytes = 0
        self._bytes = 0
        from_caller.tap = functools.partial(self._take, CALLER)
        from_worker.tap = functools.partial(self._take, AGENT)
        self._is_over = asyncio.Event()
        self._writing = asyncio.create_task(self._keep_writing(), name="write recording")

    def _take(self, direction: int, message: bytes, at: float) -> None:
        """Note an audio message that passes. Runs in the walk over frames: it must neither wait nor raise."""
        size = len(message) + ENTRY_OVERHEAD_BYTES
        self._waiting_bytes += size
        self._bytes += size
        if self._waiting_bytes > MOST_WAITING_BYTES or self._bytes > MOST_BYTES:
            return self._give_up(TOO_MUCH)
        self._waiting.append(Entry(direction, max(0, round((at - self._began) * 1000)), message[1:]))

    def _give_up(self, problem: str) -> None:
        self._listen_no_more()
        if not self.problem:
            self.problem = problem
            metrics.RECORDINGS_CUT_SHORT.inc()
            log.warning("recording.cut_short", call_id=str(self._call_id), problem=problem)

    def _listen_no_more(self) -> None:
        for passage in self._passages:
            passage.tap = None

    async def _keep_writing(self) -> None:
        while not self.problem and not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._shared.options.recording_part_seconds):
                    await self._is_over.wait()
            await self._write()

    async def _write(self) -> None:
        """Write what waits. What cannot be written in time is lost, and what would come after it with it."""
        if not self._waiting:
            return
        entries, self._waiting, self._waiting_bytes = self._waiting, [], 0
        write = functools.partial(
            write_part, key=self._key, tenant_id=self._tenant_id, call_id=self._call_id, entries=entries
        )
        try:
            async with asyncio.timeout(self._shared.options.recording_write_seconds):
                await asyncio.get_running_loop().run_in_executor(self._shared.threads, write)
        except TimeoutError:
            self._lose(TOO_SLOW)
        except Exception:  # storages raise what they will
            log.exception("recording.not_written", call_id=str(self._call_id))
            self._lose(REFUSED)

    def _lose(self, problem: str) -> None:
        """Give up what waits, too: it would come after a hole, and whoever ends the call would wait for it again."""
        self._give_up(problem)
        self._waiting, self._waiting_bytes = [], 0

    async def finish(self, *, is_all: bool) -> None:
        """Write the rest, and note that it is all, unless another gateway goes on with the call."""
        self._listen_no_more()
        self._is_over.set()
        await asyncio.gather(self._writing, return_exceptions=True)
        await self._write()
        try:
            async with (
                asyncio.timeout(self._shared.options.database_seconds),
                connection_of(self._shared.pool, self._tenant_id) as connection,
                connection.transaction(),
            ):
                await enter_tenant_async(connection, self._tenant_id)
                await stop_recording(
                    connection,
                    tenant_id=self._tenant_id,
                    call_id=self._call_id,
                    problem=self.problem,
                    is_all=is_all,
                )
        except DATABASE_AWAY as problem:
            # Whoever makes the file of it waits for a minute after the call's end, and then does without.
            log.warning("recording.end_not_noted", problem=repr(problem))
