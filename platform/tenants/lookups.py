"""Look-ups that come before the tenant is known. Each is a narrow function in the database (tenants.isolation)."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any

from django.db import connections

from tenants.isolation import Lookup, register_lookup
from tenants.models import Role, hash_secret
from tenants.scope import current_alias


@dataclasses.dataclass(frozen=True)
class Belonging:
    """A tenant as one of its members sees it from outside."""

    tenant_id: uuid.UUID
    slug: str
    name: str
    role: Role
    is_suspended: bool


MEMBERSHIPS = register_lookup(
    Lookup(
        "warmline_memberships",
        arguments="of_user bigint",
        returns="TABLE (tenant_id uuid, slug varchar, name varchar, role varchar, suspended boolean)",
        body="""SELECT t.id, t.slug, t.name, m.role, t.status = 'suspended'
                FROM tenants_membership m JOIN tenants_tenant t ON t.id = m.tenant_id
                WHERE m.user_id = of_user ORDER BY t.name""",
    )
)
INVITATION = register_lookup(
    Lookup(
        "warmline_invitation",
        arguments="with_hash varchar",
        returns="TABLE (tenant_id uuid, invitation_id uuid, tenant_name varchar)",
        body="""SELECT i.tenant_id, i.id, t.name FROM tenants_invitation i JOIN tenants_tenant t ON t.id = i.tenant_id
                WHERE i.token_hash = with_hash""",
    )
)
API_KEY = register_lookup(
    Lookup(
        "warmline_api_key",
        arguments="with_hash varchar",
        returns="TABLE (tenant_id uuid, api_key_id uuid, scopes jsonb)",
        body="""SELECT k.tenant_id, k.id, k.scopes FROM tenants_apikey k
                WHERE k.key_hash = with_hash AND k.revoked_at IS NULL""",
    )
)
HOUSE = register_lookup(
    Lookup(
        "warmline_house_tenant",
        arguments="",
        returns="uuid",
        body="SELECT id FROM tenants_tenant WHERE is_house",
    )
)
SLUG_TAKEN = register_lookup(
    Lookup(
        "warmline_slug_taken",
        arguments="wanted varchar",
        returns="boolean",
        body="SELECT EXISTS (SELECT 1 FROM tenants_tenant WHERE slug = wanted)",
    )
)


def memberships_of(user_id: int) -> list[Belonging]:
    """Return the tenants that a user belongs to, by name."""
    return [
        Belonging(tenant_id, slug, name, Role(role), suspended)
        for tenant_id, slug, name, role, suspended in _rows("SELECT * FROM warmline_memberships(%s)", user_id)
    ]


def find_invitation(token: str) -> tuple[uuid.UUID, uuid.UUID, str] | None:
    """Return (tenant id, invitation id, tenant's name) of an invitation's secret, or None."""
    rows = _rows("SELECT * FROM warmline_invitation(%s)", hash_secret(token))
    return rows[0] if rows else None


def find_api_key(secret: str) -> tuple[uuid.UUID, uuid.UUID, list[str]] | None:
    """Return (tenant id, key id, scopes) of an API key that is not revoked, or None."""
    rows = _rows("SELECT * FROM warmline_api_key(%s)", hash_secret(secret))
    if not rows:
        return None
    tenant_id, key_id, scopes = rows[0]
    return tenant_id, key_id, json.loads(scopes) if isinstance(scopes, str) else scopes


def house_tenant_id() -> uuid.UUID | None:
    """Return the operator's own tenant, which owns shared pools and the public demo."""
    return _rows("SELECT warmline_house_tenant()")[0][0]


def slug_is_taken(slug: str) -> bool:
    return _rows("SELECT warmline_slug_taken(%s)", slug)[0][0]


def _rows(statement: str, *params: Any) -> list[tuple[Any, ...]]:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()
