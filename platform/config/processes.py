"""Several programs run as one: their lines shown under their names, one's end noticed, all of them stopped in order.

Knows nothing of what the programs do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import os
import signal
from collections.abc import Callable, Sequence
from typing import Self

PR_SET_PDEATHSIG = 1
LINE_LIMIT_BYTES = 1 << 20
LAST_LINES_SECONDS = 1.0
_libc = ctypes.CDLL(None)

ShowLine = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """`stop_order`: programs of a lower one are stopped first, those of the same together."""

    name: str
    command: Sequence[str]
    stop_order: int = 0
    stop_seconds: float = 10.0
    """What it gets to end by itself after SIGTERM, before it is killed."""


class ProgramEnded(Exception):
    """A program that was to run on has ended. The sentence names it."""


class ProgramFailed(Exception):
    """A program that was to do something and end did not succeed. The sentence names it."""


class Programs:
    """Running programs, as a context manager: none of them outlives the block, nor this process."""

    def __init__(self, environment: dict[str, str], show_line: ShowLine) -> None:
        self._environment = environment
        self._show_line = show_line
        self._running: dict[Program, asyncio.subprocess.Process] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def start(self, program: Program) -> None:
        self._running[program] = await self._spawn(program)

    async def run(self, program: Program) -> None:
        """Run a program to its end.

        Raises:
            ProgramFailed
        """
        await self.start(program)
        try:
            code = await self._running[program].wait()
        finally:
            await self._end(program)
        if code != 0:
            raise ProgramFailed(f"{program.name} {_how_it_ended(code)}.")

    async def until_one_ends(self) -> None:
        """Wait until any program ends.

        Raises:
            ProgramEnded
        """
        waits = {
            asyncio.create_task(process.wait(), name=program.name): program
            for program, process in self._running.items()
        }
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        first = done.pop()
        raise ProgramEnded(f"{waits[first].name} {_how_it_ended(first.result())}.")

    async def stop(self) -> None:
        """End all programs, in their order, each within its time."""
        for order in sorted({program.stop_order for program in self._running}):
            ending = [program for program in self._running if program.stop_order == order]
            await asyncio.gather(*(self._end(program) for program in ending))
        if self._readers:
            # They end with the last process that holds the other end of the pipe.
            await asyncio.wait(self._readers, timeout=LAST_LINES_SECONDS)
        for reader in self._readers:
            reader.cancel()

    def kill(self) -> None:
        """End all programs at once: whoever waits in `stop` need not wait any longer."""
        for process in self._running.values():
            _kill_session(process)

    async def _spawn(self, program: Program) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
            limit=LINE_LIMIT_BYTES,
            # Ctrl-C is this process's to answer: a terminal would send it to all of them at once.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        assert process.stdout is not None
        reader = asyncio.create_task(self._show_lines(program.name, process.stdout), name=f"lines of {program.name}")
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return process

    async def _show_lines(self, name: str, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line over the limit
                line = b"(a line too long to be shown)\n"
            if not line:
                return
            if text := line.decode(errors="replace").rstrip():
                self._show_line(name, text)

    async def _end(self, program: Program) -> None:
        process = self._running.get(program)
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            await asyncio.wait_for(process.wait(), program.stop_seconds)
        except TimeoutError:
            self._show_line(program.name, f"does not stop within {program.stop_seconds:g} s: killed")
        finally:
            _kill_session(process)
            await process.wait()
            self._running.pop(program, None)


def end_with_parent(with_signal: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send this process a signal when its parent dies, however that dies; for `preexec_fn`."""
    _libc.prctl(PR_SET_PDEATHSIG, with_signal)


def _kill_session(process: asyncio.subprocess.Process) -> None:
    """Kill a program and its children. Each is the leader of a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
