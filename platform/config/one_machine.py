"""All of Warmline on one machine, for `manage.py demo`: its secrets, its servers, its ports and its programs.

What the environment already gives is left alone: a database, a broker, any secret.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from config import embedded, env
from config.processes import Program

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
HEALTH_TIMEOUT_SECONDS = 3.0
TELEPHONY_PORT = 8003


class CannotStart(Exception):
    """Warmline cannot be started like this. The sentence says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Ports:
    web: int
    gateway: int
    supervisor: int
    telephony: int | None = None
    """None where no carrier is to reach it."""


@contextlib.contextmanager
def own(state_dir: Path) -> Iterator[None]:
    """Hold the state folder: two installations on one set of data would end each other's servers.

    Raises:
        CannotStart: another process holds it.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in ("static", "mail", "logs"):
        (state_dir / folder).mkdir(mode=0o700, exist_ok=True)
    with (state_dir / env.LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(f"Warmline already runs on {state_dir}. Stop it, or give another --state-dir.") from None
        yield


def choose_ports(*, web: int, gateway: int, say: Callable[[str], None]) -> Ports:
    """Return these ports, or free ones in the place of those that are taken, and say so."""
    return Ports(
        web=_free_or_another(web, "web server", say),
        gateway=_free_or_another(gateway, "gateway", say),
        supervisor=embedded.free_port(),
        telephony=_free_or_another(TELEPHONY_PORT, "telephony process", say) if _has_telephones() else None,
    )


def installation_secrets(state_dir: Path) -> dict[str, str]:
    """Return what only this installation knows, made at its first start. The environment has the last word."""
    path = state_dir / "secrets.json"
    if not path.exists():
        made = {
            "WARMLINE_SECRET_KEY": secrets.token_urlsafe(48),
            "WARMLINE_CONTENT_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "LOCAL_SUPERVISOR_TOKEN": secrets.token_urlsafe(32),
            "WARMLINE_DEMO_PASSWORD": secrets.token_urlsafe(9),
        }
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(made, indent=1))
        unfinished.rename(path)
    kept: dict[str, str] = json.loads(path.read_text())
    return {name: os.environ.get(name) or value for name, value in kept.items() if f"{name}_FILE" not in os.environ}


@contextlib.contextmanager
def running_servers(state_dir: Path) -> Iterator[dict[str, str]]:
    """Run PostgreSQL and Valkey for the length of the block, each unless the environment names one; yields addresses.

    Raises:
        CannotStart
        embedded.ServiceFailed
    """
    addresses: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if not _is_set("DATABASE_URL"):
            postgres = embedded.start_postgres(state_dir / "postgres", durable=True)
            stack.callback(postgres.stop)
            addresses["DATABASE_URL"] = postgres.app_url
            addresses["DATABASE_OWNER_URL"] = postgres.owner_url
            addresses["DATABASE_OPERATOR_URL"] = postgres.operator_url
        elif not (_is_set("DATABASE_OWNER_URL") and _is_set("DATABASE_OPERATOR_URL")):
            raise CannotStart(
                "With DATABASE_URL set, DATABASE_OWNER_URL and DATABASE_OPERATOR_URL are needed too: "
                "docs/operations.md says how the three roles are made. Without any, an embedded PostgreSQL is used."
            )
        if not _is_set("REDIS_URL"):
            valkey = embedded.start_valkey(state_dir / "valkey")
            stack.callback(valkey.stop)
            addresses["REDIS_URL"] = valkey.url
        yield addresses


def environment(state_dir: Path, ports: Ports, addresses: dict[str, str], kept: dict[str, str]) -> dict[str, str]:
    """Return the environment of all programs."""
    defaults = {
        "WARMLINE_ENVIRONMENT": "demo",
        "LOG_FORMAT": "console",
        # Prepared once for this machine, whatever the state folder is.
        "WARMLINE_MODELS_DIR": str(ROOT / ".warmline" / "models"),
        # Ctrl-C is not to wait long for those who still talk.
        "GATEWAY_DRAIN_SECONDS": "2",
    }
    return {
        **defaults,
        **os.environ,
        **kept,
        **addresses,
        "WARMLINE_STATE_DIR": str(state_dir),
        "PUBLIC_URL": f"http://localhost:{ports.web}",
        "GATEWAY_URL": f"ws://localhost:{ports.gateway}",
        "TELEPHONY_GATEWAY_URL": f"ws://{HOST}:{ports.gateway}",
        "INTERNAL_URL": f"http://{HOST}:{ports.web}",
        "LOCAL_SUPERVISOR_URL": f"http://{HOST}:{ports.supervisor}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
        "PYTHONUNBUFFERED": "1",
        # Celery advises against root; who runs a demo in a container is root.
        "PYTHONWARNINGS": "ignore::UserWarning:celery.platforms",
    }


@contextlib.contextmanager
def announced(state_dir: Path, ports: Ports, addresses: dict[str, str], kept: dict[str, str]) -> Iterator[None]:
    """Tell commands beside this one where everything is, for the length of the block. See also config.env."""
    path = state_dir / env.RUNNING_FILE
    given = environment(state_dir, ports, addresses, kept)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({name: value for name, value in given.items() if os.environ.get(name) != value}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


# Programs stop in three steps: what takes work, what does it, and last what holds the workers.
TAKING, DOING, HOLDING = range(3)
PYTHON = (sys.executable, "-m")
CELERY = (*PYTHON, "celery", "--quiet", "--app", "config")


def preparation(*, seed: bool) -> Program:
    """Return what brings the database up to date, and ends."""
    arguments = ["seed_demo", "--migrate"] if seed else ["migrate", "--verbosity", "0"]
    return Program("database", [sys.executable, str(ROOT / "manage.py"), *arguments], stop_seconds=5)


def servers(ports: Ports) -> list[Program]:
    """Return what answers requests. None looks into the database before it is asked something."""
    telephony = [*PYTHON, "config.telephony", "--host", HOST, "--port", str(ports.telephony)]
    return [
        *([Program("telephony", telephony, stop_seconds=8)] if ports.telephony else []),
        Program("supervisor", [*PYTHON, "provisioning.backends.local.supervisor"], stop_order=HOLDING, stop_seconds=15),
        Program("gateway", [*PYTHON, "config.gateway", "--host", HOST, "--port", str(ports.gateway)], stop_seconds=8),
        Program(
            "web",
            [
                *PYTHON,
                "uvicorn",
                "config.asgi:application",
                "--host",
                HOST,
                "--port",
                str(ports.web),
                "--no-access-log",
                "--log-level",
                "warning",
                "--no-server-header",
                "--lifespan",
                "off",
                "--timeout-graceful-shutdown",
                "2",
            ],
            stop_seconds=8,
        ),
    ]


def background() -> list[Program]:
    """Return what works by itself, on a database that is up to date."""
    return [
        Program(
            "tasks",
            [*CELERY, "worker", "--concurrency", "2", "--without-mingle", "--without-gossip", "--without-heartbeat"],
            stop_order=DOING,
            stop_seconds=8,
        ),
        # All its schedules are short intervals: what it would keep in a file is of no use to the next start.
        Program("beat", [*CELERY, "beat", "--scheduler", "celery.beat:Scheduler"], stop_seconds=5),
    ]


def unhealthy(ports: Ports) -> list[str]:
    """Return the names of those processes that do not answer, or say that they cannot work."""
    processes = {
        "web": ports.web,
        "gateway": ports.gateway,
        "supervisor": ports.supervisor,
        "telephony": ports.telephony,
    }
    return [
        name for name, port in processes.items() if port is not None and not answers(f"http://{HOST}:{port}/healthz")
    ]


def answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=HEALTH_TIMEOUT_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _has_telephones() -> bool:
    return _is_set("TELEPHONY_URL") or _is_set("SIP_HOST")


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def _free_or_another(port: int, who: str, say: Callable[[str], None]) -> int:
    if _is_free(port):
        return port
    another = embedded.free_port()
    say(f"Port {port} is taken: the {who} uses {another}.")
    return another


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, HOST), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            # "localhost" may lead to either: a stranger's server on one of them would take our visitors.
            probe.settimeout(0.5)
            if probe.connect_ex((host, port)) == 0:
                return False
    with socket.socket() as probe:
        # As the servers do: a port whose last connections only linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
