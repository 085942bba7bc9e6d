"""The cast of every test: alice owns acme, bob is a viewer of it, charlie owns rival and must see nothing of acme."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import services

services.start()

import django  # noqa: E402  (the services must run before the settings are read)

django.setup()

from celery import current_app  # noqa: E402
from django.conf import settings  # noqa: E402

# Argon2 is slow on purpose; every test makes people.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

from django.core import mail  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import override_settings, setup_test_environment, teardown_test_environment  # noqa: E402

from tenants.models import Role, Tenant, User  # noqa: E402
from tests import factories  # noqa: E402
from tests.object_server import ObjectServer  # noqa: E402
from tests.recording_stores import Files, Objects, Store  # noqa: E402

QUEUE = "celery"
KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission", "billing_plan"}


@pytest.fixture(scope="session", autouse=True)
def migrated_database() -> Iterator[None]:
    setup_test_environment()
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()
    teardown_test_environment()


@pytest.fixture(autouse=True)
def database(migrated_database: None) -> Iterator[None]:
    """Leave no row behind. Rows are committed for real: other processes and other roles must see them."""
    yield
    mail.outbox.clear()
    with connections["owner"].cursor() as cursor:
        # Row-level security is forced on the owner too.
        cursor.execute("SET warmline.definer = 'on'")
        tables = sorted(set(connections["owner"].introspection.table_names(cursor)) - KEPT_TABLES)
        cursor.execute(" UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {table})" for table in tables))
        if filled := [table for (table,) in cursor.fetchall()]:
            cursor.execute(f"TRUNCATE {', '.join(filled)} CASCADE")
            cache.clear()


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    server = ObjectServer(tmp_path_factory.mktemp("objects"))
    yield server
    server.stop()


@pytest.fixture
def objects(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """The store for objects, with its key in the environment."""
    for name, value in object_server.credentials.items():
        monkeypatch.setenv(name, value)
    return Objects(object_server)


@pytest.fixture
def keep_recordings_in() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that has recordings kept elsewhere, until the test is over."""
    overrides: list[override_settings] = []

    def change(storage: dict[str, Any]) -> None:
        overrides.append(override_settings(STORAGES={**settings.STORAGES, "recordings": storage}))
        overrides[-1].enable()

    yield change
    for override in reversed(overrides):
        override.disable()


@pytest.fixture(params=["files", "objects"])
def store(request: pytest.FixtureRequest, keep_recordings_in: Callable[[dict[str, Any]], None]) -> Store:
    """Runs a test with recordings in a folder, and in a store that speaks S3's protocol."""
    if request.param == "files":
        return Files(settings.STORAGES["recordings"])
    objects: Objects = request.getfixturevalue("objects")
    keep_recordings_in(objects.settings)
    return objects


@pytest.fixture
def alice() -> User:
    return factories.create_user(email="alice@acme.example")


@pytest.fixture
def bob() -> User:
    return factories.create_user(email="bob@acme.example")


@pytest.fixture
def charlie() -> User:
    return factories.create_user(email="charlie@rival.example")


@pytest.fixture
def olivia() -> User:
    """The operator."""
    return factories.create_user(email="olivia@warmline.example", operator=True)


@pytest.fixture
def acme(alice: User, bob: User) -> Tenant:
    tenant = factories.create_tenant(name="Acme", owner=alice)
    factories.add_member(tenant=tenant, user=bob, role=Role.VIEWER)
    return tenant


@pytest.fixture
def rival(charlie: User) -> Tenant:
    return factories.create_tenant(name="Rival", owner=charlie)


@pytest.fixture
def house() -> Tenant:
    """The operator's own tenant."""
    return factories.create_tenant(name="Warmline house", slug="house", plan="house", is_house=True)


@pytest.fixture
def client_of() -> object:
    """Return a function from a user to a browser session of theirs."""

    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in


@pytest.fixture
def work_queue() -> Iterator[Callable[[], list[str]]]:
    """Return a function that does what is queued on the broker, as a worker would, and names the tasks it did."""
    with current_app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queue_purge(QUEUE)

        def work() -> list[str]:
            done = []
            while (message := channel.basic_get(QUEUE)) is not None:
                channel.basic_ack(message.delivery_tag)
                name = message.headers["task"]
                current_app.tasks[name](**json.loads(message.body)[1])
                done.append(name)
            return done

        yield work
        channel.queue_purge(QUEUE)
