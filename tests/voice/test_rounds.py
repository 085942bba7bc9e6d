"""Going round the calls: each is looked at once a round, and none is forgotten because another fails."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator

from voice.backlog import Backlog
from voice.rounds import ROUND_SECONDS, STEPS, Rounds


@contextlib.asynccontextmanager
async def going() -> AsyncIterator[Rounds]:
    rounds = Rounds()
    task = asyncio.create_task(rounds.keep_going())
    try:
        yield rounds
    finally:
        task.cancel()


async def test_each_is_looked_at_once_a_round() -> None:
    looks: collections.Counter[int] = collections.Counter()
    async with going() as rounds:
        for number in range(5 * STEPS):
            rounds.join(number, lambda at, number=number: looks.update([number]))  # type: ignore[misc]
        await asyncio.sleep(2.2 * ROUND_SECONDS)
    assert set(looks) == set(range(5 * STEPS))
    assert max(looks.values()) <= 3


async def test_who_fails_or_leaves_keeps_nobody_from_being_looked_at() -> None:
    looked: list[tuple[str, float]] = []

    def fail(at: float) -> None:
        raise ValueError

    async with going() as rounds:
        rounds.join("failing", fail)
        rounds.join("leaving", lambda at: (looked.append(("leaving", at)), rounds.leave("leaving"))[0])
        rounds.join("staying", lambda at: looked.append(("staying", at)))
        await asyncio.sleep(1.5 * ROUND_SECONDS)
        rounds.leave("nobody")
    who = [name for name, _ in looked]
    assert who.count("leaving") == 1
    assert who.count("staying") >= 2
    assert all(0 <= time.monotonic() - at < 5 for _, at in looked)


def test_a_backlog_gives_what_it_was_given_in_order() -> None:
    backlog: Backlog[bytes] = Backlog()
    assert (len(backlog), backlog.first()) == (0, None)
    for message in (b"one", b"two", b"three"):
        backlog.append(message)
    assert (len(backlog), backlog.first(), backlog.popleft(), backlog.popleft()) == (3, b"one", b"one", b"two")
    backlog.append(b"four")
    assert [backlog.popleft() for _ in range(len(backlog))] == [b"three", b"four"]
    assert not backlog
    backlog.append(b"five")
    backlog.clear()
    assert not backlog
