"""Transcripts as the gateway writes and reads them, on its own psycopg connection."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg

from content import crypto
from content.keys import TenantKeyDeleted, tenant_key_async

_INSERT_SQL = """
    INSERT INTO content_transcriptline (id, tenant_id, call_id, position, turn_index, role, text, interrupted, at_ms)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, call_id, position) DO NOTHING
"""
_SELECT_SQL = """
    SELECT position, turn_index, role, text, interrupted, at_ms FROM content_transcriptline WHERE call_id = %s
    ORDER BY position
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """`position`: order within the call, from 0. `at_ms`: milliseconds since the call began."""

    position: int
    turn_index: int
    role: str
    text: str
    interrupted: bool
    at_ms: int


async def append_lines(
    connection: psycopg.AsyncConnection[Any], *, tenant_id: uuid.UUID, call_id: uuid.UUID, lines: Sequence[Line]
) -> None:
    """Store lines of a call; one that is there already stays as it is, so that a checkpoint may be repeated."""
    if not lines:
        return
    key = await tenant_key_async(connection, tenant_id)
    rows = [
        (
            uuid.uuid4(),
            tenant_id,
            call_id,
            line.position,
            line.turn_index,
            line.role,
            crypto.encrypt(key, line.text.encode()),
            line.interrupted,
            line.at_ms,
        )
        for line in lines
    ]
    async with connection.cursor() as cursor:
        await cursor.executemany(_INSERT_SQL, rows)


async def read_lines(
    connection: psycopg.AsyncConnection[Any], *, tenant_id: uuid.UUID, call_id: uuid.UUID
) -> list[Line]:
    """Return what was said in a call so far; nothing where the tenant's content was deleted. The tenant was entered."""
    rows = await (await connection.execute(_SELECT_SQL, (call_id,))).fetchall()
    if not rows:
        return []
    try:
        key = await tenant_key_async(connection, tenant_id)
    except TenantKeyDeleted:
        return []
    return [
        Line(position, turn_index, role, crypto.decrypt(key, bytes(text)).decode(), interrupted, at_ms)
        for position, turn_index, role, text, interrupted, at_ms in rows
    ]
