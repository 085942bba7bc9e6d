"""Rows that belong to a tenant: the abstract model, its manager, and references between such rows.

The manager's guard is lazy: a queryset may be built anywhere, and asks for the tenant when its SQL is made.
See also: tenants.isolation, which makes the same rules in the database for every model of this kind.
"""

from __future__ import annotations

import uuid
from typing import Any, Self

from django.db import models
from django.db.models.expressions import Expression

from tenants.scope import NoTenantEntered, crosses_tenants, current_tenant_id


class InEnteredTenant(Expression):
    """The condition `tenant_id = <the entered tenant>`, resolved when the SQL is made.

    Raises:
        NoTenantEntered: no tenant is entered, and the operator's scope is not either.
    """

    conditional = True

    def __init__(self, column: Any = None) -> None:
        super().__init__(output_field=models.BooleanField())
        self.column = column or models.F("tenant_id")

    def get_source_expressions(self) -> list[Any]:
        return [self.column]

    def set_source_expressions(self, expressions: Any) -> None:
        (self.column,) = expressions

    def as_sql(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, Any]:  # type: ignore[override]
        if crosses_tenants():
            return "TRUE", []
        tenant_id = current_tenant_id()
        if tenant_id is None:
            raise NoTenantEntered("Enter a tenant (tenants.scope.enter_tenant) before querying its rows.")
        sql, params = compiler.compile(self.column)
        return f"{sql} = %s", [*params, tenant_id]


class TenantQuerySet(models.QuerySet):
    def for_tenant(self, tenant: Any) -> Self:
        """Say in the code what the guard and the database enforce anyway."""
        return self.filter(tenant=tenant)


_Manager = models.Manager.from_queryset(TenantQuerySet)


class TenantManager(_Manager):  # type: ignore[misc, valid-type]
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(InEnteredTenant())


class TenantForeignKey(models.ForeignKey):
    """A reference between two rows of one tenant.

    Foreign keys ignore row-level security, so a plain one could point at another tenant's row. The constraint is made
    by tenants.isolation over (tenant_id, id) instead.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["db_constraint"] = False
        super().__init__(*args, **kwargs)


class TenantOwned(models.Model):
    """A row of one tenant. `append_only` models refuse UPDATE and DELETE in the database."""

    append_only = False

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", editable=False)

    objects = TenantManager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.tenant_id is None:
            self.tenant_id = entered_tenant_id()
        super().save(*args, **kwargs)


def entered_tenant_id() -> uuid.UUID:
    """Return the entered tenant's id.

    Raises:
        NoTenantEntered: none is.
    """
    tenant_id = current_tenant_id()
    if tenant_id is None:
        raise NoTenantEntered("Enter a tenant (tenants.scope.enter_tenant) before writing its rows.")
    return tenant_id


def tenant_owned_models() -> list[type[TenantOwned]]:
    """Return every concrete tenant-owned model of this installation."""
    from django.apps import apps

    return [model for model in apps.get_models() if issubclass(model, TenantOwned) and not model._meta.proxy]
