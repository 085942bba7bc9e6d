"""Reading from the gateway which tools a call has run, on its own psycopg connection."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

_SELECT_SQL = "SELECT name, ok FROM content_toolrun WHERE call_id = %s ORDER BY started_at"


async def read_tool_runs(connection: psycopg.AsyncConnection[Any], *, call_id: uuid.UUID) -> list[tuple[str, bool]]:
    """Return name and success of a call's tools, oldest first; the tenant was entered."""
    rows = await (await connection.execute(_SELECT_SQL, (call_id,))).fetchall()
    return [(name, ok) for name, ok in rows]
