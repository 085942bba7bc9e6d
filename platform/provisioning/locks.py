"""Work that one process at a time does, in several transactions of its own.

The lock belongs to a transaction on a connection beside the usual one: a process that dies lets go of it, and a pooler
that gives out connections by transaction does no harm.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from django.conf import settings


@contextlib.contextmanager
def locking() -> Iterator[psycopg.Connection]:
    """Open the connection that locks are taken on, one at a time."""
    with psycopg.connect(settings.DATABASE_URL, autocommit=True, connect_timeout=10) as connection:
        yield connection


@contextlib.contextmanager
def only_one(locks: psycopg.Connection, what: str) -> Iterator[bool]:
    """Yield whether this process got hold of `what`."""
    with locks.transaction():
        found = locks.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [what]).fetchone()
        yield bool(found and found[0])
