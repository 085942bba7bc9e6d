"""Credentials of tenants' own accounts: sealed with the tenant's key, opened for a backend, deleted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from content import crypto
from content.keys import tenant_key_async
from content.models import AccountCredentials

if TYPE_CHECKING:
    import psycopg

_SELECT_SQL = "SELECT credentials FROM content_accountcredentials WHERE tenant_id = %s AND account_id = %s"


def store_credentials(account_id: uuid.UUID, credentials: Mapping[str, str]) -> None:
    AccountCredentials.objects.update_or_create(account_id=account_id, defaults={"credentials": dict(credentials)})


def delete_credentials(account_id: uuid.UUID) -> None:
    AccountCredentials.objects.filter(account_id=account_id).delete()


async def read_credentials(
    connection: psycopg.AsyncConnection[Any], *, tenant_id: uuid.UUID, account_id: uuid.UUID
) -> dict[str, str] | None:
    """Return them on a psycopg connection that has entered the tenant; None where there are none.

    Raises:
        content.keys.TenantKeyDeleted, content.crypto.DecryptionFailed
    """
    row = await (await connection.execute(_SELECT_SQL, (tenant_id, account_id))).fetchone()
    if row is None:
        return None
    plaintext = crypto.decrypt(await tenant_key_async(connection, tenant_id), bytes(row[0]))
    opened: dict[str, str] = json.loads(plaintext)
    return opened
