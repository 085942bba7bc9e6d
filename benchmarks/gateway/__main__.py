"""What the gateway costs beside nginx: `make bench-gateway`, or `python -m benchmarks.gateway [--seconds 10]`.

Each proxy in turn carries the same calls between the same two ends: a client that sends frames of 120 bytes at a steady
rate, and a worker that sends them back. The proxy has a core of its own. Its CPU time is the kernel's count of its
processes; delays are round trips, and what a proxy adds is its delay less that of no proxy at all.
The gateway is the real one, with its tickets, its metering and its database.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.__main__ import ROOT, be_beside
from config.embedded import free_port
from tests.config.demos import Demo

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LOADS = ((50, 50.0), (200, 50.0), (1000, 12.5))
"""Calls, and frames a second each way of each."""
STARTED_SECONDS = 30.0
COLUMNS = (
    ("calls", 5),
    ("rate", 5),
    ("proxy", 9),
    ("µs/frame", 8),
    ("÷ nginx", 8),
    ("p50 ms", 7),
    ("p99 ms", 7),
    ("max ms", 7),
    ("KiB/call", 8),
    ("opened/s", 8),
    ("ms/open", 7),
    ("lost", 5),
)
"""Delays are those added to the delay without a proxy, whose own row shows it whole."""

NGINX = """
daemon off; worker_processes 1; error_log {folder}/error.log; pid {folder}/nginx.pid; worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://127.0.0.1:{worker}; proxy_http_version 1.1; proxy_read_timeout 3600s;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
}}
"""


NO_LIMITS = {f"GATEWAY_{name}": "0" for name in ("MOST_CALLS", "ADDRESS_CALLS_PER_MINUTE", "TENANT_CALLS_PER_MINUTE")}
"""All calls of the load come from one address, for one tenant."""


class Child:
    """A process on one core, with what it and its children have used."""

    def __init__(self, command: list[str], *, core: int, **variables: str) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", **variables},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509  (no threads here)
        )

    def read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def write(self, document: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(document) + "\n")
        self.process.stdin.flush()

    @property
    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    @property
    def cpu_seconds(self) -> float:
        total = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / CLOCK_TICKS

    @property
    def resident_bytes(self) -> int:
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES for pid in self.pids)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(STARTED_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


# --- the proxies -----------------------------------------------------------------------------------------------------
Addresses = Callable[[int], list[str]]


@contextlib.contextmanager
def no_proxy(worker: int, core: int, folder: Path) -> Iterator[tuple[Child | None, Addresses, bool]]:
    yield None, lambda count: [f"ws://127.0.0.1:{worker}/"] * count, False


@contextlib.contextmanager
def nginx(worker: int, core: int, folder: Path) -> Iterator[tuple[Child | None, Addresses, bool]]:
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, worker=worker))
    with Child(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")], core=core) as child:
        _wait_for(port)
        yield child, lambda count: [f"ws://127.0.0.1:{port}/"] * count, False


@contextlib.contextmanager
def bare(worker: int, core: int, folder: Path) -> Iterator[tuple[Child | None, Addresses, bool]]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.bare", "--port", str(port), "--worker", str(worker)]
    with Child(command, core=core) as child:
        _wait_for(port)
        yield child, lambda count: [f"ws://127.0.0.1:{port}/"] * count, False


@contextlib.contextmanager
def gateway(worker: int, core: int, folder: Path) -> Iterator[tuple[Child | None, Addresses, bool]]:
    from benchmarks.gateway.tenant import addresses_of_calls

    port = free_port()
    command = [sys.executable, "-m", "tests.voice.gateway_process", "--port", str(port)]
    with Child(command, core=core, **NO_LIMITS) as child:
        _wait_for(port)
        yield child, lambda count: addresses_of_calls(f"ws://127.0.0.1:{port}", worker, count), True


@contextlib.contextmanager
def channels(worker: int, core: int, folder: Path) -> Iterator[tuple[Child | None, Addresses, bool]]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "error"]
    command += ["benchmarks.gateway.stock:application"]
    with Child(command, core=core, WORKER_URL=f"ws://127.0.0.1:{worker}/") as child:
        _wait_for(port)
        yield child, lambda count: [f"ws://127.0.0.1:{port}/"] * count, False


PROXIES = {"none": no_proxy, "nginx": nginx, "bare": bare, "warmline": gateway, "channels": channels}


# --- measuring -------------------------------------------------------------------------------------------------------
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--proxies", nargs="+", choices=PROXIES, default=list(PROXIES))
    parser.add_argument("--loads", type=int, nargs="+", default=[calls for calls, _ in LOADS], help="of calls at once")
    arguments = parser.parse_args()
    if "nginx" in arguments.proxies and shutil.which("nginx") is None:
        parser.error("nginx is missing: apt-get install nginx-light, or leave it out with --proxies none warmline.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("Two cores are needed: one for the proxy, one for what speaks through it.")
    os.sched_setaffinity(0, {cores[-1]})  # the databases too: the first core is the proxy's alone
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)

    with tempfile.TemporaryDirectory(prefix="warmline-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if "warmline" in arguments.proxies:
            ports = ["--port", str(free_port()), "--gateway-port", str(free_port())]
            demo = stack.enter_context(Demo(folder / "demo", "--no-seed", *ports))
            demo.until_ready()
            be_beside(demo)
            from benchmarks.gateway.tenant import lift_limits

            lift_limits()
            stack.callback(demo.press_ctrl_c)
        rows = list(_measure(folder, arguments, cores))
    print(json.dumps({"rows": rows}))


def _measure(folder: Path, arguments: argparse.Namespace, cores: list[int]) -> Iterator[dict[str, Any]]:
    print(" ".join(f"{heading:>{width}}" for heading, width in COLUMNS))
    for calls, rate in LOADS:
        if calls not in arguments.loads:
            continue
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.proxies}
        for _ in range(arguments.rounds):
            for name in arguments.proxies:
                with Child([sys.executable, "-m", "benchmarks.gateway.peers", "echo"], core=cores[-1]) as worker:
                    rounds[name].append(_carry(name, worker.read(), calls, rate, arguments.seconds, folder, cores))
        rows = {name: _median(measured) for name, measured in rounds.items()}
        for name, row in rows.items():
            if "none" in rows and name != "none":
                row["added_ms"] = {
                    what: row["delay_ms"][what] - rows["none"]["delay_ms"][what] for what in row["delay_ms"]
                }
            if "nginx" in rows and name != "none":
                row["ratio_to_nginx"] = row["cpu_us_per_frame"] / rows["nginx"]["cpu_us_per_frame"]
            _print(row)
            yield row


def _median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure of the rounds; of delays and losses too, which a busy machine adds to."""
    return {
        key: value
        if isinstance(value, str)
        else {what: statistics.median(row[key][what] for row in rows) for what in value}
        if isinstance(value, dict)
        else statistics.median(row[key] for row in rows)
        for key, value in rows[0].items()
    }


def _carry(
    name: str, worker: int, calls: int, rate: float, seconds: float, folder: Path, cores: list[int]
) -> dict[str, Any]:
    with PROXIES[name](worker, cores[0], folder) as (proxy, addresses, greets):
        before = proxy.resident_bytes if proxy else 0
        command = [sys.executable, "-m", "benchmarks.gateway.peers", "load"]
        command += ["--rate", str(rate), "--seconds", str(seconds), *(["--greets"] if greets else [])]
        urls = addresses(calls)
        with Child(command, core=cores[-1]) as load:
            opening = proxy.cpu_seconds if proxy else 0.0
            load.write(urls)
            load.read()
            opening = (proxy.cpu_seconds if proxy else 0.0) - opening
            load.read()
            used = proxy.cpu_seconds if proxy else 0.0
            load.read()
            used = (proxy.cpu_seconds if proxy else 0.0) - used
            after = proxy.resident_bytes if proxy else 0
            load.write("done")
            figures = load.read()
    frames = figures["sent"] + figures["heard"]
    return {
        "proxy": name,
        "calls": calls,
        "rate": rate,
        "cpu_us_per_frame": 1e6 * used / frames,
        "delay_ms": figures["delay_ms"],
        "kib_per_call": (after - before) / calls / 1024,
        "lost": max(0, figures["sent"] - figures["heard"] - 2 * calls),
        "opened_per_second": figures["opened_per_second"],
        "cpu_ms_per_opening": 1e3 * opening / calls,
    }


def _print(row: dict[str, Any]) -> None:
    delays = row.get("added_ms", row["delay_ms"])
    cells: list[str] = [
        f"{row['calls']:.0f}",
        f"{row['rate']:.1f}",
        row["proxy"],
        f"{row['cpu_us_per_frame']:.2f}",
        f"{row['ratio_to_nginx']:.2f}" if "ratio_to_nginx" in row else "",
        *(f"{delays[what]:.2f}" for what in ("p50", "p99", "max")),
        f"{row['kib_per_call']:.0f}",
        f"{row['opened_per_second']:.0f}",
        f"{row['cpu_ms_per_opening']:.2f}",
        f"{row['lost']:.0f}",
    ]
    print(" ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True)), flush=True)


def _wait_for(port: int) -> None:
    import socket

    deadline = time.monotonic() + STARTED_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            time.sleep(0.05)


if __name__ == "__main__":
    main()
