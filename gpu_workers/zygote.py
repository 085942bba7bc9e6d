"""A loaded parent that forks workers, the local snapshot: `python -m gpu_workers.zygote cascade --socket PATH`.

It loads an engine once, prints `{"loaded": true, "load_ms": …}`, and then takes requests on a Unix socket, one JSON
object a line: `{"fork": {"container", "host", "port", "max_sessions", "session_key", "ordered_ns", "log",
"grace_seconds"}}`. Each is answered when the child can take calls (`{"ready": true, "pid", "port", "boot",
"boot_ms"}`), and once more, on the same connection, when it has gone (`{"exited": pid, "code": …}`). Children outlive
their parent; one that is not ready when its connection closes is killed: nobody waits for it any more.

The parent stays free of threads and of an event loop: neither survives a fork.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from gpu_workers import logs, process
from gpu_workers.engine import Engine, Identity
from gpu_workers.http_engine import HttpEngine
from gpu_workers.protocol import BootKind

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 64 * 1024


class RequestError(ValueError):
    """A request cannot be met. The sentence goes back to who asked."""


@dataclasses.dataclass(slots=True)
class Client:
    connection: socket.socket
    unread: bytes = b""


@dataclasses.dataclass(slots=True)
class Child:
    pid: int
    client: Client
    report: int
    """The reading end of a pipe whose other end only the child holds: it closes when the child is gone."""
    unread: bytes = b""
    is_ready: bool = False


class Zygote:
    def __init__(self, engine: Engine, listener: socket.socket) -> None:
        self._engine = engine
        self._listener = listener
        self._children: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def serve(self) -> NoReturn:
        """Meet requests until killed."""
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        client = Client(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: Client) -> None:
        try:
            data = client.connection.recv(4096)
        except OSError:
            data = b""
        client.unread += data
        *lines, client.unread = client.unread.split(b"\n")
        if not data or len(client.unread) > MAX_REQUEST_BYTES:
            self._selector.unregister(client.connection)
            client.connection.close()
            for child in self._children.values():
                if child.client is client and not child.is_ready:
                    os.kill(child.pid, signal.SIGKILL)
            return
        for line in lines:
            try:
                self._fork(client, _read_request(line))
            except RequestError as problem:
                _tell(client, {"error": str(problem)})

    def _fork(self, client: Client, order: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._become_worker(order, writing)
        os.close(writing)
        child = self._children[pid] = Child(pid, client, reading)
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._hear_of(child))

    def _hear_of(self, child: Child) -> None:
        """Pass on a child's ready line, and its end when its pipe closes."""
        data = os.read(child.report, 4096)
        child.unread += data
        *lines, child.unread = child.unread.split(b"\n")
        for line in lines:
            child.is_ready = True
            _tell(child.client, json.loads(line))
        if data:
            return
        self._selector.unregister(child.report)
        os.close(child.report)
        del self._children[child.pid]
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        logger.info("child exited", extra={"fields": {"pid": child.pid, "code": code}})
        _tell(child.client, {"exited": child.pid, "code": code})

    def _become_worker(self, order: dict[str, Any], report: int) -> NoReturn:
        """Turn this forked child into a worker of its own; never returns to the parent's loop."""
        code = 1
        try:
            os.setsid()  # the parent's death, or a Ctrl-C meant for it, is not this child's
            for key in list(self._selector.get_map().values()):
                if key.fd != report:
                    os.close(key.fd)
            self._selector.close()
            _redirect_output(order["log"])
            logs.start_logging(container=order["container"])
            process.run(
                self._engine,
                Identity(
                    container=order["container"],
                    boot=BootKind.RESTORED,
                    max_sessions=order["max_sessions"],
                    session_key=bytes.fromhex(order["session_key"]) if order["session_key"] else None,
                ),
                process.Address(order["host"], order["port"]),
                ordered_ns=order["ordered_ns"],
                grace_seconds=order["grace_seconds"],
                report=lambda document: _write_line(report, document),
            )
            code = 0
        except BaseException:
            logger.exception("the worker failed")
        finally:
            os._exit(code)  # what the parent registered to run at its exit is not for children


def _read_request(line: bytes) -> dict[str, Any]:
    """Return the order for a fork, complete and typed.

    Raises:
        RequestError: it is not of its form.
    """
    try:
        order = json.loads(line)["fork"]
        return {
            "container": str(order["container"]),
            "host": str(order.get("host", "127.0.0.1")),
            "port": int(order.get("port", 0)),
            "max_sessions": int(order.get("max_sessions", 4)),
            "session_key": str(order.get("session_key") or ""),
            "ordered_ns": int(order.get("ordered_ns") or time.monotonic_ns()),
            "log": str(order["log"]) if order.get("log") else None,
            "grace_seconds": float(order.get("grace_seconds", 30)),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise RequestError(f"The request is not of its form: {problem!r}") from problem


def _redirect_output(log: str | None) -> None:
    """Let stderr go to the child's own log, and stdout nowhere: it belongs to the parent's supervisor."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    if log:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)


def _write_line(descriptor: int, document: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(document).encode() + b"\n")


def _tell(client: Client, document: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who asked has gone: the child lives on
        client.connection.sendall(json.dumps(document).encode() + b"\n")


def main() -> None:
    process.limit_threads()
    from gpu_workers import kinds

    parser = argparse.ArgumentParser(prog="python -m gpu_workers.zygote", description=__doc__)
    parser.add_argument("kind", choices=sorted(kinds.KINDS))
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--max-sessions", type=int, default=4, help="of each child, at most")
    parser.add_argument("--checkpoint", help="folder of the model's weights")
    arguments = parser.parse_args()

    logs.start_logging(container="zygote")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    began_ns = time.monotonic_ns()
    engine = kinds.make_engine(arguments.kind, checkpoint=arguments.checkpoint, max_sessions=arguments.max_sessions)
    if isinstance(engine, HttpEngine):
        parser.error(f"{arguments.kind} has processes of its own, and cannot be forked with them.")
    engine.load()
    if threads := threading.enumerate()[1:]:
        logger.warning("threads that a fork loses", extra={"fields": {"threads": [thread.name for thread in threads]}})
    gc.collect()
    gc.freeze()  # the collector would otherwise touch, and so copy, every page shared with the children

    arguments.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(arguments.socket))
    arguments.socket.chmod(0o600)
    listener.listen()
    print(json.dumps({"loaded": True, "load_ms": round((time.monotonic_ns() - began_ns) / 1e6, 1)}), flush=True)
    Zygote(engine, listener).serve()


if __name__ == "__main__":
    main()
