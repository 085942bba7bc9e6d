"""Whose rows the code may touch: one tenant's, or, for what crosses tenants by right, all of them as the operator.

PostgreSQL's row-level security decides; the ORM's guard (tenants.ownership) only turns a forgotten scope into an error.
The setting is local to a transaction, so a pooled connection never carries it to the next request.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import structlog
from django.db import connections, transaction

if TYPE_CHECKING:
    import psycopg

SETTING = "warmline.tenant_id"
ENTER_SQL = f"SELECT set_config('{SETTING}', %s, true)"

_tenant_id: ContextVar[uuid.UUID | None] = ContextVar("tenant_id", default=None)
_operator: ContextVar[bool] = ContextVar("operator", default=False)
log = structlog.get_logger(__name__)


class NoTenantEntered(RuntimeError):
    """A query on tenant-owned rows ran with no tenant entered."""


def current_tenant_id() -> uuid.UUID | None:
    return _tenant_id.get()


def crosses_tenants() -> bool:
    """Return whether queries run as the operator, with no tenant entered."""
    return _operator.get() and _tenant_id.get() is None


def current_alias() -> str:
    """Return the database alias that queries go to: `default`, or `operator`."""
    return "operator" if _operator.get() else "default"


@contextlib.contextmanager
def enter_tenant(tenant_id: uuid.UUID | str) -> Iterator[None]:
    """Run the block in a transaction that sees one tenant's rows, then restore what was entered before."""
    tenant_id = tenant_id if isinstance(tenant_id, uuid.UUID) else uuid.UUID(tenant_id)
    connection = connections[current_alias()]
    previous = _tenant_id.get()
    with transaction.atomic(using=connection.alias):
        _set_config(connection, tenant_id)
        token = _tenant_id.set(tenant_id)
        try:
            with structlog.contextvars.bound_contextvars(tenant_id=str(tenant_id)):
                yield
        finally:
            _tenant_id.reset(token)
        # A local setting outlives a nested atomic block, so it is put back by hand; after an error the roll-back does.
        if not connection.needs_rollback:
            _set_config(connection, previous)


@contextlib.contextmanager
def enter_operator(actor: object, reason: str) -> Iterator[None]:
    """Run the block as the operator, who sees every tenant's rows; who and why goes to the log.

    What the operator changes is written to the tenant's audit trail by the journey that changes it.
    """
    log.info("operator.entered", actor=str(actor), reason=reason)
    operator_token, tenant_token = _operator.set(True), _tenant_id.set(None)
    try:
        yield
    finally:
        _tenant_id.reset(tenant_token)
        _operator.reset(operator_token)


@contextlib.contextmanager
def atomic() -> Iterator[None]:
    """Open a transaction on the connection that the current scope uses."""
    with transaction.atomic(using=current_alias()):
        yield


async def enter_tenant_async(connection: psycopg.AsyncConnection[Any], tenant_id: uuid.UUID | str) -> None:
    """Enter a tenant on a psycopg connection that is inside a transaction; the transaction's end leaves it."""
    await connection.execute(ENTER_SQL, (str(tenant_id),))


def _set_config(connection: Any, tenant_id: uuid.UUID | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ENTER_SQL, (str(tenant_id) if tenant_id else "",))
