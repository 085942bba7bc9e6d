"""Row-level security for every tenant-owned table, made anew after each migrate, so that no app can forget it.

Three roles (their names come from the database addresses):
    application  owns nothing; sees the rows of the tenant in `warmline.tenant_id`; without one, none
    operator     sees all rows; used only through tenants.scope.enter_operator
    owner        runs migrations; FORCE binds it too, so that an application started as owner by mistake leaks nothing

Look-ups that come before the tenant is known are SECURITY DEFINER functions of the owner. Each sets `warmline.definer`
for its own duration, which a policy for the owner alone asks for; the application gains nothing by setting it. (A SET
clause on the function would be shorter, but PostgreSQL lets only superusers write one for such a setting.)
"""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db import connections, models, transaction
from psycopg import sql

from tenants.ownership import TenantForeignKey, TenantOwned, tenant_owned_models


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A narrow function that the application may call before a tenant is entered.

    `arguments` and `returns` are SQL as in CREATE FUNCTION (a scalar, or TABLE); `body` is one SQL statement.
    """

    name: str
    arguments: str
    returns: str
    body: str


_lookups: dict[str, Lookup] = {}


def register_lookup(lookup: Lookup) -> Lookup:
    """Add a look-up; called from an app's `ready()`."""
    _lookups[lookup.name] = lookup
    return lookup


def secure_after_migrate(sender: object, using: str, **kwargs: Any) -> None:
    """Handle post_migrate, once, when all tables stand."""
    if using == "owner":
        secure_tables()


def secure_tables() -> None:
    """Make policies, grants, composite references, append-only triggers and look-ups. Safe to repeat."""
    roles = {alias: connections[alias].settings_dict["USER"] for alias in ("default", "operator", "owner")}
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        # A migrate to an earlier point leaves models without tables.
        tables = set(connections["owner"].introspection.table_names(cursor))
        for statement in _statements(roles, tables):
            cursor.execute(statement)


def _statements(roles: dict[str, str], tables: set[str]) -> list[sql.Composable]:
    from django.apps import apps

    from tenants.models import Tenant

    owned = [model for model in tenant_owned_models() if model._meta.db_table in tables]
    statements = [*_grants(roles), _refusal_function()]
    statements += _policies(Tenant._meta.db_table, "id", roles)
    for model in owned:
        table = model._meta.db_table
        statements += _policies(table, "tenant_id", roles)
        if any(field.primary_key and field.attname == "id" for field in model._meta.fields):
            statements.append(
                sql.SQL("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} (tenant_id, id)").format(
                    sql.Identifier(f"{table}_tenant_row"), sql.Identifier(table)
                )
            )
        if model.append_only:
            statements += _append_only(table, roles)
    # References come after all unique indexes that they point at.
    for model in owned:
        for field in model._meta.local_fields:
            if isinstance(field, TenantForeignKey) and field.remote_field.model._meta.db_table in tables:
                statements.append(_composite_reference(model, field))
    for kept in apps.get_models():
        if getattr(kept, "operator_writes", False) and kept._meta.db_table in tables:
            statements.append(
                sql.SQL("REVOKE INSERT, UPDATE, DELETE ON {} FROM {}").format(
                    sql.Identifier(kept._meta.db_table), sql.Identifier(roles["default"])
                )
            )
        # Rows that came before their tenant was known, and are nobody's but the operator's.
        if getattr(kept, "operator_only", False) and kept._meta.db_table in tables:
            statements.append(
                sql.SQL("REVOKE ALL ON {} FROM {}").format(
                    sql.Identifier(kept._meta.db_table), sql.Identifier(roles["default"])
                )
            )
    for lookup in _lookups.values():
        statements += _definer_function(lookup, roles)
    return statements


def _grants(roles: dict[str, str]) -> list[sql.Composable]:
    granted = sql.SQL(", ").join(sql.Identifier(role) for role in sorted({roles["default"], roles["operator"]}))
    return [
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(granted),
        sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(granted),
        sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(granted),
        sql.SQL("REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {}").format(granted),
    ]


def _policies(table: str, column: str, roles: dict[str, str]) -> list[sql.Composable]:
    names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    # After a transaction the setting is '', not NULL: hence NULLIF.
    condition = sql.SQL("{column} = NULLIF(current_setting('warmline.tenant_id', true), '')::uuid").format(**names)
    definer = sql.SQL("current_setting('warmline.definer', true) = 'on'")
    policies = [
        ("tenant_rows", sql.SQL("PUBLIC"), condition),
        ("operator_rows", sql.Identifier(roles["operator"]), sql.SQL("true")),
        ("definer_rows", sql.Identifier(roles["owner"]), definer),
    ]
    # Where no role of its own is configured for the operator, a policy for it would open the table to the application.
    if roles["operator"] == roles["default"]:
        del policies[1]
    if roles["owner"] == roles["default"]:
        policies = [policy for policy in policies if policy[0] != "definer_rows"]
    statements: list[sql.Composable] = [
        sql.SQL("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY").format(**names),
        sql.SQL("ALTER TABLE {table} FORCE ROW LEVEL SECURITY").format(**names),
    ]
    for name in ("tenant_rows", "operator_rows", "definer_rows"):
        statements.append(sql.SQL("DROP POLICY IF EXISTS {} ON {table}").format(sql.Identifier(name), **names))
    for name, role, using in policies:
        statements.append(
            sql.SQL("CREATE POLICY {} ON {table} TO {} USING ({}) WITH CHECK ({})").format(
                sql.Identifier(name), role, using, using, **names
            )
        )
    return statements


def _composite_reference(model: type[TenantOwned], field: models.ForeignKey) -> sql.Composable:
    name = f"{model._meta.db_table}_{field.column}_same_tenant"[-63:]
    return sql.SQL(
        """DO $$ BEGIN
        ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (tenant_id, {column})
            REFERENCES {target} (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
        EXCEPTION WHEN duplicate_object THEN NULL; END $$"""
    ).format(
        table=sql.Identifier(model._meta.db_table),
        name=sql.Identifier(name),
        column=sql.Identifier(field.column),
        target=sql.Identifier(field.remote_field.model._meta.db_table),
    )


def _refusal_function() -> sql.Composable:
    return sql.SQL(
        """CREATE OR REPLACE FUNCTION warmline_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'Rows of % are never changed: write a further one.', TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$"""
    )


def _append_only(table: str, roles: dict[str, str]) -> list[sql.Composable]:
    names = {"table": sql.Identifier(table)}
    granted = sql.SQL(", ").join(sql.Identifier(role) for role in sorted({roles["default"], roles["operator"]}))
    return [
        sql.SQL("REVOKE UPDATE, DELETE ON {table} FROM {}").format(granted, **names),
        sql.SQL("DROP TRIGGER IF EXISTS append_only ON {table}").format(**names),
        sql.SQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION warmline_refuse_change()"
        ).format(**names),
    ]


def _definer_function(lookup: Lookup, roles: dict[str, str]) -> list[sql.Composable]:
    signature = sql.SQL("{}({})").format(sql.Identifier(lookup.name), sql.SQL(lookup.arguments))
    granted = sql.SQL(", ").join(sql.Identifier(role) for role in sorted({roles["default"], roles["operator"]}))
    result = "RETURN QUERY {body};" if lookup.returns.startswith("TABLE") else "answer := ({body});"
    scalar = not lookup.returns.startswith("TABLE")
    # Columns of a TABLE result have the names of the tables' own columns: the statement means those.
    body = f"""#variable_conflict use_column
        {f"DECLARE answer {lookup.returns};" if scalar else ""}
        BEGIN
            PERFORM set_config('warmline.definer', 'on', true);
            {result.format(body=lookup.body)}
            PERFORM set_config('warmline.definer', '', true);
            {"RETURN answer;" if scalar else ""}
        END"""
    return [
        # A changed result type cannot be replaced in place.
        sql.SQL("DROP FUNCTION IF EXISTS {}").format(signature),
        sql.SQL(
            "CREATE FUNCTION {} RETURNS {} LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS {}"
        ).format(signature, sql.SQL(lookup.returns), sql.Literal(body)),
        sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(signature),
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(signature, granted),
    ]
