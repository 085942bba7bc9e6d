"""Work that one process at a time does, with no transaction held open meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import DatabaseError, connections


@contextlib.contextmanager
def only_one(what: str) -> Iterator[bool]:
    """Yield whether this process got hold of `what`; a process that dies lets go of it."""
    connection = connections["default"]
    if connection.in_atomic_block:
        raise RuntimeError("Take the lock before a transaction: it is for work that has several.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [what])
        (is_ours,) = cursor.fetchone()
    try:
        yield is_ours
    finally:
        if is_ours:
            # Where the connection broke, the lock went with it.
            with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [what])
