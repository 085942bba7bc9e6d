"""`manage.py demo`: the whole platform on this machine, with nothing else installed, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import env, one_machine
from config.embedded import ServiceFailed
from config.processes import ProgramEnded, ProgramFailed, Programs
from web.seeding import OPERATOR, OWNER, VIEWER

READY_SECONDS = 90
POLL_SECONDS = 0.1
LOGINS = (("operator", OPERATOR), ("tenant owner", OWNER), ("viewer", VIEWER))
COLOURS = {"warmline": 36, "web": 34, "gateway": 35, "telephony": 31, "tasks": 33, "beat": 33, "supervisor": 32}


class Command(BaseCommand):
    help = "Run the whole platform on this machine: databases, web, gateway, tasks and workers. Ctrl-C stops all of it."
    requires_system_checks: list[str] = []  # The programs that are started check themselves.

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of the web server (default: %(default)s)")
        parser.add_argument("--gateway-port", type=int, default=8001, help="of the gateway (default: %(default)s)")
        parser.add_argument("--state-dir", type=Path, default=settings.STATE_DIR, help="default: %(default)s")
        parser.add_argument("--no-seed", action="store_true", help="leave the database as it is")

    def handle(self, *args: Any, **options: Any) -> None:
        env.forget_running_demo()
        state_dir = options["state_dir"].resolve()
        try:
            asyncio.run(
                run(state_dir, port=options["port"], gateway_port=options["gateway_port"], seed=not options["no_seed"])
            )
        except (one_machine.CannotStart, ServiceFailed, ProgramEnded, ProgramFailed) as problem:
            raise CommandError(str(problem)) from problem


async def run(state_dir: Path, *, port: int, gateway_port: int, seed: bool) -> None:
    """Start everything, say when it is ready, and stop it on SIGINT or SIGTERM.

    Raises:
        CannotStart
        ServiceFailed: a database server.
        ProgramFailed: migrating or filling the database.
        ProgramEnded: a program that was to run on.
    """
    stopping = asyncio.Event()
    with one_machine.own(state_dir):
        ports = one_machine.choose_ports(web=port, gateway=gateway_port, say=say)
        kept = one_machine.installation_secrets(state_dir)
        with (
            one_machine.running_servers(state_dir) as addresses,
            one_machine.announced(state_dir, ports, addresses, kept),
        ):
            async with Programs(one_machine.environment(state_dir, ports, addresses, kept), show_line) as programs:
                _stop_on_signals(stopping, programs)
                await _first_of(_work(programs, ports, kept, seed=seed), stopping.wait())
                say("stopping")
    say("stopped")


async def _work(programs: Programs, ports: one_machine.Ports, kept: dict[str, str], *, seed: bool) -> None:
    # The servers load while the database is brought up to date: there are two cores at least.
    for program in one_machine.servers(ports):
        await programs.start(program)
    await programs.run(one_machine.preparation(seed=seed))
    for program in one_machine.background():
        await programs.start(program)
    await _first_of(_until_ready(ports), programs.until_one_ends())
    _introduce(ports, kept if seed else None)
    await programs.until_one_ends()


async def _until_ready(ports: one_machine.Ports) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while missing := await asyncio.to_thread(one_machine.unhealthy, ports):  # noqa: ASYNC110  (other processes)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        names = ", ".join(missing)
        raise one_machine.CannotStart(f"After {READY_SECONDS} s there is no answer from: {names}.") from None


async def _first_of(*coroutines: Any) -> None:
    """Run until the first is done, and raise what it raised; the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    done.pop().result()


def _stop_on_signals(stopping: asyncio.Event, programs: Programs) -> None:
    """Stop on the first Ctrl-C; on another one do not wait for anything."""

    def stop() -> None:
        if stopping.is_set():
            programs.kill()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _introduce(ports: one_machine.Ports, kept: dict[str, str] | None) -> None:
    lines = ["", "Warmline is ready:", "", f"  http://localhost:{ports.web}", ""]
    if kept is not None:
        password = kept["WARMLINE_DEMO_PASSWORD"]
        lines += [f"  {who:<13} {email:<27} {password}" for who, email in LOGINS]
        lines.append("")
    lines += ["Ctrl-C stops it; its data stays.", ""]
    print("\n".join(lines), flush=True)


def say(sentence: str) -> None:
    show_line("warmline", sentence)


def show_line(name: str, line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(f"{_coloured(f'{name:<10} |', COLOURS.get(name, 37))} {line}", flush=True)


def _coloured(text: str, colour: int) -> str:
    return f"\033[{colour}m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
