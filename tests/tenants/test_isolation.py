"""What keeps one tenant's rows from another: the guard, the policies, the references, and every table under them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, connections, transaction

from tenants import audit
from tenants.isolation import secure_tables
from tenants.models import ApiKey, AuditEntry, Membership, Role, Tenant, User
from tenants.ownership import TenantForeignKey, tenant_owned_models
from tenants.scope import NoTenantEntered, current_tenant_id, enter_operator, enter_tenant, enter_tenant_async

OWNED_TABLES = {model._meta.db_table: model for model in tenant_owned_models()}


@pytest.fixture
def operators_eye() -> Iterator[psycopg.Connection]:
    with psycopg.connect(settings.DATABASE_OPERATOR_URL, autocommit=True) as eye:
        yield eye


def test_every_table_with_a_tenant_is_a_tenant_owned_model() -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.columns "
            "WHERE column_name = 'tenant_id' AND table_schema = 'public'"
        )
        assert {name for (name,) in cursor.fetchall()} == set(OWNED_TABLES)


@pytest.mark.parametrize("table", [*sorted(OWNED_TABLES), "tenants_tenant"])
def test_every_owned_table_has_forced_row_security_and_its_three_policies(table: str) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = %s", [table])
        assert cursor.fetchall() == [(True, True)]
        cursor.execute("SELECT policyname, roles::text[] FROM pg_policies WHERE tablename = %s", [table])
        policies = dict(cursor.fetchall())
    assert policies == {
        "tenant_rows": ["public"],
        "operator_rows": [connections["operator"].settings_dict["USER"]],
        "definer_rows": [connections["owner"].settings_dict["USER"]],
    }


def test_every_reference_between_owned_rows_is_held_to_one_tenant() -> None:
    missing = []
    for table, model in OWNED_TABLES.items():
        for field in model._meta.local_fields:
            if not field.is_relation or field.remote_field.model not in OWNED_TABLES.values():
                continue
            if not isinstance(field, TenantForeignKey):
                missing.append(f"{table}.{field.column} is not a TenantForeignKey")
                continue
            with connections["owner"].cursor() as cursor:
                cursor.execute(
                    "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
                    "WHERE contype = 'f' AND conrelid = %s::regclass",
                    [table],
                )
                if not any(f"FOREIGN KEY (tenant_id, {field.column})" in found for (found,) in cursor.fetchall()):
                    missing.append(f"{table}.{field.column} has no composite reference")
    assert missing == []


def test_the_application_role_owns_nothing_and_bypasses_nothing() -> None:
    for alias in ("default", "operator"):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user")
            assert cursor.fetchone() == (False, False, False)
            cursor.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole")
            assert cursor.fetchone() == (0,)
            cursor.execute("SELECT has_schema_privilege('public', 'CREATE')")
            assert cursor.fetchone() == (False,)


def test_a_forgotten_tenant_raises_in_the_orm(acme: Tenant) -> None:
    for query in (Membership.objects.count, Membership.objects.all().exists, lambda: list(Membership.objects.all())):
        with pytest.raises(NoTenantEntered):
            query()
    with pytest.raises(NoTenantEntered):
        Membership.objects.update(role=Role.OWNER)
    with pytest.raises(NoTenantEntered):
        Membership.objects.all().delete()
    with pytest.raises(NoTenantEntered):
        Membership(user=User.objects.first()).save()


def test_a_forgotten_tenant_sees_nothing_in_raw_sql(acme: Tenant) -> None:
    for table in (*OWNED_TABLES, "tenants_tenant"):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone() == (0,), table


@pytest.mark.parametrize("table", sorted(OWNED_TABLES))
def test_an_outsider_sees_and_changes_no_row_of_any_table(
    table: str, acme: Tenant, rival: Tenant, operators_eye: psycopg.Connection
) -> None:
    """Walk every owned table as rival. `fill` puts a row of acme into each, straight into the table."""
    fill(table, acme.id)
    counted = f"SELECT count(*) FROM {table} WHERE tenant_id = %s"
    before = operators_eye.execute(counted, [acme.id]).fetchone()
    assert before is not None and before[0] > 0
    with enter_tenant(rival.id), connection.cursor() as cursor:
        cursor.execute(counted, [acme.id])
        assert cursor.fetchone() == (0,)
        assert not OWNED_TABLES[table].objects.filter(tenant_id=acme.id).exists()
        if not OWNED_TABLES[table].append_only:
            cursor.execute(f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = %s", [acme.id])
            assert cursor.rowcount == 0
            cursor.execute(f"DELETE FROM {table} WHERE tenant_id = %s", [acme.id])
            assert cursor.rowcount == 0
    assert operators_eye.execute(counted, [acme.id]).fetchone() == before


def fill(table: str, tenant_id: uuid.UUID) -> None:
    """Put one row of the tenant into a table, whatever its columns, unless it holds one already.

    References are put aside for this row (`session_replication_role`), as only the bootstrap user may.
    """
    from tests.services import superuser_url

    with psycopg.connect(superuser_url(), autocommit=True) as superuser:
        found = superuser.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [tenant_id]).fetchone()
        if found is not None and found[0]:
            return
        superuser.execute("SET session_replication_role = replica")
        columns = superuser.execute(
            """SELECT column_name, data_type FROM information_schema.columns
               WHERE table_name = %s AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'""",
            [table],
        ).fetchall()
        # Each further column of a kind gets a later value: what begins before it ends keeps its order.
        values = {name: sample(kind, position) for position, (name, kind) in enumerate(columns)} | {
            "tenant_id": tenant_id
        }
        for model_field in OWNED_TABLES[table]._meta.local_fields:
            if model_field.column in values and model_field.choices:
                values[model_field.column] = model_field.choices[0][0]
        superuser.execute(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})",
            list(values.values()),
        )


def sample(kind: str, position: int) -> object:
    moment = datetime.datetime(2026, 3, 2, 1, tzinfo=datetime.UTC) + datetime.timedelta(minutes=position)
    return {
        "uuid": uuid.UUID(int=7),
        "character varying": "x",
        "bigint": 1,
        "integer": 1,
        "smallint": 1,
        "numeric": 1,
        "double precision": 1.0,
        "boolean": False,
        "bytea": b"x",
        "jsonb": "{}",
        "date": moment.date(),
        "text": "x",
        "time without time zone": moment.time(),
        "timestamp with time zone": moment,
        "ARRAY": [],
    }[kind]


def test_a_row_cannot_be_written_for_another_tenant(acme: Tenant, rival: Tenant) -> None:
    with pytest.raises(DatabaseError, match="row-level security"), enter_tenant(rival.id):
        ApiKey.objects.create(tenant_id=acme.id, name="stolen", prefix="wl_", key_hash="x")


def test_a_reference_cannot_cross_tenants(acme: Tenant, rival: Tenant) -> None:
    from agents.models import Agent, AgentVersion

    with enter_tenant(acme.id):
        theirs = Agent.objects.create(slug="theirs", name="Theirs", vertical="salon", template_slug="x", draft={})
    with pytest.raises(IntegrityError, match="same_tenant"), enter_tenant(rival.id):
        AgentVersion.objects.create(agent_id=theirs.pk, number=1, config={}, engine="cascade")


def test_nested_scopes_restore_what_was_entered_before(acme: Tenant, rival: Tenant) -> None:
    with enter_tenant(acme.id):
        with enter_tenant(rival.id):
            assert [tenant.name for tenant in Tenant.objects.all()] == ["Rival"]
        assert [tenant.name for tenant in Tenant.objects.all()] == ["Acme"]
        with transaction.atomic(), enter_tenant(rival.id):
            assert Tenant.objects.get().name == "Rival"
        assert Tenant.objects.get().name == "Acme"
    assert current_tenant_id() is None
    assert Tenant.objects.count() == 0


def test_an_error_in_a_nested_scope_restores_too(acme: Tenant, rival: Tenant) -> None:
    with enter_tenant(acme.id):
        with pytest.raises(IntegrityError), enter_tenant(rival.id):
            Membership.objects.create(user=User.objects.get(email="charlie@rival.example"))
        assert Tenant.objects.get().name == "Acme"


def test_a_pooled_connection_carries_no_tenant_to_the_next_transaction(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        assert Membership.objects.exists()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('warmline.tenant_id', true), count(*) FROM tenants_membership")
        assert cursor.fetchone() in ((None, 0), ("", 0))


def test_threads_do_not_share_their_tenant(acme: Tenant, rival: Tenant) -> None:
    def names_in(tenant: Tenant) -> list[str]:
        try:
            with enter_tenant(tenant.id):
                return [found.name for found in Tenant.objects.all()]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(names_in, [acme, rival] * 8))
    assert results == [["Acme"], ["Rival"]] * 8


async def test_a_psycopg_connection_enters_a_tenant_for_one_transaction(acme: Tenant) -> None:
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL, autocommit=True) as raw:
        async with raw.transaction():
            await enter_tenant_async(raw, acme.id)
            row = await (await raw.execute("SELECT count(*) FROM tenants_membership")).fetchone()
            assert row == (2,)
        row = await (await raw.execute("SELECT count(*) FROM tenants_membership")).fetchone()
        assert row == (0,)


def test_the_operator_sees_all_tenants_and_may_enter_one(acme: Tenant, rival: Tenant, olivia: User) -> None:
    with enter_operator(olivia, reason="a test"):
        assert {tenant.name for tenant in Tenant.objects.all()} == {"Acme", "Rival"}
        assert Membership.objects.count() == 3
        with enter_tenant(acme.id):
            assert Membership.objects.count() == 2
    with pytest.raises(NoTenantEntered):
        Membership.objects.count()


def test_the_application_gains_nothing_by_the_definers_setting(acme: Tenant) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL warmline.definer = 'on'")
        cursor.execute("SELECT count(*) FROM tenants_membership")
        assert cursor.fetchone() == (0,)


def test_append_only_rows_cannot_be_changed_or_deleted_by_any_role(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        audit.record(action="test.done", target="x")
    for alias in ("default", "operator"):
        for statement in ("UPDATE tenants_auditentry SET action = 'y'", "DELETE FROM tenants_auditentry"):
            with pytest.raises(DatabaseError), connections[alias].cursor() as cursor:
                cursor.execute(statement)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic(using="owner"):
        with connections["owner"].cursor() as cursor:
            cursor.execute("SET LOCAL warmline.definer = 'on'")
            cursor.execute("UPDATE tenants_auditentry SET action = 'y'")
    with enter_tenant(acme.id):
        assert AuditEntry.objects.filter(action="test.done").count() == 1


def test_securing_the_tables_again_changes_nothing(acme: Tenant) -> None:
    secure_tables()
    secure_tables()
    with enter_tenant(acme.id):
        assert Membership.objects.count() == 2
