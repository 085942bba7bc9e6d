"""Programs run as one: their lines, their ends, and that none of them stays."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from config.processes import Program, ProgramEnded, ProgramFailed, Programs

READY = "print('ready', flush=True); "
WAITS = READY + "import time; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS


class Lines(list[tuple[str, str]]):
    def show(self, name: str, line: str) -> None:
        self.append((name, line))

    async def until(self, name: str, line: str) -> None:
        async with asyncio.timeout(10):
            while (name, line) not in self:
                await asyncio.sleep(0.01)


def program(name: str, code: str, *, stop_order: int = 0, stop_seconds: float = 5.0) -> Program:
    return Program(name, [sys.executable, "-c", code], stop_order=stop_order, stop_seconds=stop_seconds)


def is_running(pid: int) -> bool:
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def programs(lines: Lines) -> Programs:
    return Programs(dict(os.environ), lines.show)


async def test_lines_are_shown_under_their_programs_name(programs: Programs, lines: Lines) -> None:
    async with programs:
        await programs.run(program("talker", "import sys; print('out'); print('wrong', file=sys.stderr)"))
    assert sorted(lines) == [("talker", "out"), ("talker", "wrong")]


async def test_a_line_beyond_all_measure_does_not_stop_those_that_follow(programs: Programs, lines: Lines) -> None:
    async with programs:
        await programs.run(program("talker", "print('x' * 3_000_000); print('after')"))
    assert ("talker", "after") in lines


async def test_a_program_that_fails_is_named(programs: Programs) -> None:
    async with programs:
        with pytest.raises(ProgramFailed, match="migrate ended with exit code 3"):
            await programs.run(program("migrate", "raise SystemExit(3)"))


async def test_the_first_that_ends_is_named(programs: Programs, lines: Lines) -> None:
    async with programs:
        await programs.start(program("stays", WAITS))
        await programs.start(program("goes", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
        with pytest.raises(ProgramEnded, match="goes was killed by SIGKILL"):
            async with asyncio.timeout(10):
                await programs.until_one_ends()


async def test_programs_stop_in_their_order(programs: Programs, lines: Lines) -> None:
    farewell = (
        "import signal, sys, time; "
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.2), print('bye', flush=True), sys.exit())); "
    )
    async with programs:
        await programs.start(program("last", farewell + WAITS, stop_order=1))
        await programs.start(program("first", farewell + WAITS))
        for name in ("first", "last"):
            await lines.until(name, "ready")
    assert [name for name, line in lines if line == "bye"] == ["first", "last"]


async def test_a_program_that_does_not_stop_is_killed_with_its_children(programs: Programs, lines: Lines) -> None:
    parent = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); child = os.fork(); "
        "child and sys.stdout.write(f'{child}\\nready\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    async with programs:
        await programs.start(program("stubborn", parent, stop_seconds=0.3))
        await lines.until("stubborn", "ready")
        child = next(int(line) for _, line in lines if line.isdigit())
        assert is_running(child)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    async with asyncio.timeout(5):
        while is_running(child):
            await asyncio.sleep(0.01)
    assert any("killed" in line for _, line in lines)


async def test_nobody_waits_any_longer_once_all_are_killed(programs: Programs, lines: Lines) -> None:
    async with programs:
        await programs.start(program("stubborn", STUBBORN, stop_seconds=30))
        await lines.until("stubborn", "ready")
        stopping = asyncio.create_task(programs.stop())
        await asyncio.sleep(0)
        programs.kill()
        async with asyncio.timeout(5):
            await stopping
