"""Functions that build valid rows with their neighbours, each committed."""

from __future__ import annotations

from typing import Any

from billing.accounts import open_account
from tenants.models import Membership, Role, Tenant, User
from tenants.scope import enter_tenant

PASSWORD = "a long and silly passphrase"


def create_user(*, email: str = "dora@acme.example", operator: bool = False) -> User:
    if operator:
        return User.objects.create_superuser(email, PASSWORD)
    return User.objects.create_user(email, PASSWORD)


def create_tenant(*, name: str = "Acme", owner: User | None = None, plan: str = "growth", **fields: Any) -> Tenant:
    return open_account(name=name, owner=owner, plan=plan, **fields)


def add_member(*, tenant: Tenant, user: User, role: Role = Role.VIEWER) -> Membership:
    with enter_tenant(tenant.id):
        return Membership.objects.create(user=user, role=role)
