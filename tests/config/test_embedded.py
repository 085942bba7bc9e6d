"""The embedded servers: the roles that isolation rests on, data that stays, and no process left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from config import embedded

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def postgres(folder: Path) -> Iterator[embedded.Postgres]:
    server = embedded.start_postgres(folder / "postgres", durable=False)
    yield server
    server.stop()


def test_no_role_of_the_platform_is_a_superuser_or_bypasses_row_level_security(postgres: embedded.Postgres) -> None:
    for url in (postgres.app_url, postgres.owner_url, postgres.operator_url):
        with psycopg.connect(url) as connection:
            found = connection.execute(
                "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert found == (False, False, False, False)


def test_only_the_owner_makes_tables(postgres: embedded.Postgres) -> None:
    with psycopg.connect(postgres.owner_url) as connection:
        connection.execute("CREATE TABLE kept (number int)")
    for url in (postgres.app_url, postgres.operator_url):
        with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE public.mine (number int)")


def test_the_owner_needs_no_superuser_for_the_extensions(postgres: embedded.Postgres) -> None:
    with psycopg.connect(postgres.owner_url) as connection:
        for extension in embedded.EXTENSIONS:
            connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")


def test_data_and_passwords_stay_over_a_restart(folder: Path) -> None:
    first = embedded.start_postgres(folder / "postgres", durable=True)
    with psycopg.connect(first.owner_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    first.stop()
    second = embedded.start_postgres(folder / "postgres", durable=True)
    try:
        with psycopg.connect(second.owner_url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
        assert second.passwords == first.passwords
    finally:
        second.stop()


def test_passwords_are_for_the_owner_of_the_folder_alone(postgres: embedded.Postgres, folder: Path) -> None:
    assert stat.S_IMODE((folder / "postgres" / "passwords.json").stat().st_mode) == 0o600
    assert not (folder / "postgres" / "initdb-password").exists()


def test_a_first_start_that_was_cut_short_is_finished_by_the_next(folder: Path) -> None:
    (folder / "postgres" / "data.new").mkdir(parents=True)
    (folder / "postgres" / "data.new" / "PG_VERSION").write_text("18")
    embedded.start_postgres(folder / "postgres", durable=False).stop()
    (folder / "postgres" / "prepared").unlink()
    server = embedded.start_postgres(folder / "postgres", durable=False)
    try:
        psycopg.connect(server.app_url).close()
    finally:
        server.stop()


def test_a_further_database_can_be_made_from_a_template(postgres: embedded.Postgres) -> None:
    with psycopg.connect(postgres.owner_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    embedded.create_database(postgres, "copy", template=embedded.DATABASE)
    with psycopg.connect(postgres.url("owner", "copy")) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_valkey_wants_its_password(folder: Path) -> None:
    server = embedded.start_valkey(folder / "valkey")
    try:
        client = redis.Redis.from_url(server.url)
        assert client.ping()
        client.close()
        stranger = redis.Redis.from_url("redis://" + server.url.rsplit("@", 1)[1])
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        stranger.close()
        assert stat.S_IMODE((folder / "valkey" / "valkey.conf").stat().st_mode) == 0o600
    finally:
        server.stop()


def test_a_server_that_cannot_start_says_where_its_log_is(folder: Path) -> None:
    embedded.start_postgres(folder / "postgres", durable=False).stop()
    (folder / "postgres" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(embedded.ServiceFailed, match=r"postgres\.log"):
        embedded.start_postgres(folder / "postgres", durable=False)


def test_the_servers_end_when_their_parent_is_killed(folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from config import embedded\n"
        "folder = Path(sys.argv[1])\n"
        "servers = embedded.start_postgres(folder / 'p', durable=False), embedded.start_valkey(folder / 'v')\n"
        "print(*(server.process.pid for server in servers), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"left behind: {alive}"
        time.sleep(0.05)
