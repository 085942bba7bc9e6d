"""Each tenant's content key: made with the tenant, unwrapped once per process, gone for good when deleted."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings

from content import crypto
from content.models import TenantKey
from tenants.ownership import entered_tenant_id

if TYPE_CHECKING:
    import psycopg

_SELECT_SQL = "SELECT wrapped FROM content_tenantkey WHERE tenant_id = %s"
_MAKE_SQL = (
    "INSERT INTO content_tenantkey (id, tenant_id, wrapped, created_at) VALUES (%s, %s, %s, now()) "
    "ON CONFLICT (tenant_id) DO NOTHING"
)


class TenantKeyDeleted(Exception):
    """The tenant's key was deleted, and with it all its content."""


@functools.lru_cache(maxsize=4096)
def _unwrap(tenant_id: uuid.UUID, wrapped: bytes) -> bytes:
    return crypto.unwrap_key(crypto.master_key(settings.CONTENT_KEY), tenant_id, wrapped)


def _new_wrapped(tenant_id: uuid.UUID) -> bytes:
    return crypto.wrap_key(crypto.master_key(settings.CONTENT_KEY), tenant_id, crypto.generate_key())


def tenant_key(tenant_id: uuid.UUID | None = None) -> bytes:
    """Return the entered tenant's content key, making it at first use.

    Raises:
        TenantKeyDeleted: the tenant's content was deleted.
    """
    tenant_id = tenant_id or entered_tenant_id()
    stored, _ = TenantKey.objects.get_or_create(tenant_id=tenant_id, defaults={"wrapped": _new_wrapped(tenant_id)})
    return _opened(tenant_id, stored.wrapped)


async def tenant_key_async(connection: psycopg.AsyncConnection[Any], tenant_id: uuid.UUID) -> bytes:
    """Do the same on a psycopg connection that has entered the tenant."""
    row = await (await connection.execute(_SELECT_SQL, (tenant_id,))).fetchone()
    if row is None:
        await connection.execute(_MAKE_SQL, (uuid.uuid4(), tenant_id, _new_wrapped(tenant_id)))
        row = await (await connection.execute(_SELECT_SQL, (tenant_id,))).fetchone()
    assert row is not None
    return _opened(tenant_id, row[0])


def _opened(tenant_id: uuid.UUID, wrapped: bytes | memoryview) -> bytes:
    if not wrapped:
        raise TenantKeyDeleted("This tenant's content was deleted.")
    return _unwrap(tenant_id, bytes(wrapped))


def key_is_deleted() -> bool:
    """Return whether the entered tenant's content was deleted."""
    return TenantKey.objects.filter(wrapped=b"").exists()


def delete_content_key() -> None:
    """Make all content of the entered tenant unreadable for good; the empty row keeps a new key from being made."""
    TenantKey.objects.update_or_create(tenant_id=entered_tenant_id(), defaults={"wrapped": b""})
