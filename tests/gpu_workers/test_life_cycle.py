"""The life of worker processes: cold, restored by a fork, drained, and what must not come along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gpu_workers import tokens
from gpu_workers.protocol import CloseCode, Start
from tests.gpu_workers.callers import Caller
from tests.gpu_workers.worker_processes import ROOT, Zygote, cold_worker, environment, loaded_zygote

KEY = "00112233445566778899aabbccddeeff"


def status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as response:
        return json.load(response)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def heard_greeting(port: int, **connection: Any) -> None:
    async with Caller.connected(port, Start(call_id="c", agent={"greeting": "Hello."}), **connection) as caller:
        await caller.wait_for(lambda: caller.transcripts("agent"))


async def test_a_cold_worker_serves_and_drains_at_sigterm(tmp_path: Path) -> None:
    with cold_worker(tmp_path / "log", "--container", "cold-1", "--max-sessions", "3") as (ready, process):
        assert ready["boot"] == "cold"
        assert ready["pid"] == process.pid
        assert ready["boot_ms"] > 100
        document = status(ready["port"])
        assert (document["container"], document["max_sessions"], document["sessions"]) == ("cold-1", 3, [])
        await heard_greeting(ready["port"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["container"] for line in lines} == {"cold-1"}
    assert any(line.get("call_id") == "c" for line in lines)


async def test_a_live_call_outlasts_sigterm_until_its_grace_is_over(zygote: Zygote) -> None:
    ready = zygote.fork("drained", grace_seconds=1.5)
    async with Caller.connected(ready["port"], Start(call_id="c", agent={"greeting": "Hello."})) as caller:
        os.kill(ready["pid"], signal.SIGTERM)
        await caller.wait_for(lambda: caller.transcripts("agent"))
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await heard_greeting(ready["port"])
        assert refused.value.status == 503
        assert await caller.wait_until_closed() == CloseCode.GOING_AWAY
    assert zygote.hear() == {"exited": ready["pid"], "code": 0}


async def test_a_restored_worker_serves_and_is_ready_far_sooner_than_a_cold_one(zygote: Zygote, tmp_path: Path) -> None:
    restored_ms = []
    for number in range(3):
        ready = zygote.fork(f"restored-{number}")
        assert ready["boot"] == status(ready["port"])["boot"] == "restored"
        await heard_greeting(ready["port"])
        restored_ms.append(ready["boot_ms"])
    with cold_worker(tmp_path / "log") as (cold, _):
        assert min(restored_ms) * 10 < cold["boot_ms"]


def test_two_forks_differ_in_identity_and_randomness_and_bring_no_session_along(zygote: Zygote, tmp_path: Path) -> None:
    program = """
import json, os, random, sys
import numpy
from gpu_workers import kinds, process, protocol
from gpu_workers.engine import Identity

engine = kinds.make_engine("cascade")
engine.load()
# The parent's random state comes along: a child that does not seed anew repeats its siblings' numbers.
random.seed(1)
numpy.random.seed(1)
for name in ("first", "second"):
    sys.stdout.flush()
    if os.fork() == 0:
        def report(document):
            print(json.dumps({
                "container": name, "pid": os.getpid(), "random": random.random(), "numpy": numpy.random.random(),
            }), flush=True)
            os._exit(0)
        identity = Identity(name, protocol.BootKind.RESTORED, max_sessions=1)
        process.run(engine, identity, process.Address("127.0.0.1", 0), ordered_ns=0, grace_seconds=0, report=report)
    os.wait()
"""
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), capture_output=True, timeout=120, check=True
    )
    first, second = (json.loads(line) for line in out.stdout.splitlines())
    for what in ("container", "pid", "random", "numpy"):
        assert first[what] != second[what]

    ready = [zygote.fork(name, session_key=KEY if name == "keyed" else "") for name in ("keyed", "open")]
    documents = [status(each["port"]) for each in ready]
    assert [document["container"] for document in documents] == ["keyed", "open"]
    assert all(document["sessions"] == [] for document in documents)


async def test_a_session_on_one_fork_is_not_seen_by_the_next(zygote: Zygote) -> None:
    first = zygote.fork("first")
    async with Caller.connected(first["port"], Start(call_id="c")):
        assert len(status(first["port"])["sessions"]) == 1
        assert status(zygote.fork("second")["port"])["sessions"] == []


def test_a_fork_shares_no_socket_and_no_database_with_its_siblings(zygote: Zygote) -> None:
    files = [open_files(zygote.fork(name)["pid"]) for name in ("first", "second")]
    shared = files[0] & files[1]
    assert not [name for name in shared if not name.startswith(("/dev/null", "anon_inode:"))]


def open_files(pid: int) -> set[str]:
    return {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}


async def test_each_fork_has_the_session_key_it_was_given(zygote: Zygote) -> None:
    ready = zygote.fork("keyed", session_key=KEY)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await heard_greeting(ready["port"])
    assert refused.value.status == 401
    token = tokens.sign_session(bytes.fromhex(KEY), "s-1")
    await heard_greeting(ready["port"], headers={tokens.HEADER: f"Bearer {token}"})


def test_a_fork_that_dies_is_reported_and_the_next_one_serves(zygote: Zygote) -> None:
    ready = zygote.fork("doomed")
    os.kill(ready["pid"], signal.SIGKILL)
    assert zygote.hear() == {"exited": ready["pid"], "code": -signal.SIGKILL}
    assert status(zygote.fork("next")["port"])["container"] == "next"


def test_a_fork_that_cannot_take_its_port_exits_with_its_reason_in_its_log(zygote: Zygote, tmp_path: Path) -> None:
    taken = zygote.fork("first")["port"]
    gone = zygote.ask({"fork": {"container": "late", "port": taken, "log": str(tmp_path / "late.log")}})
    assert gone["code"] == 1
    assert "address already in use" in (tmp_path / "late.log").read_text().lower()


@pytest.mark.parametrize("request_", ["nonsense", "{}", '{"fork": {}}', '{"fork": {"container": "x", "port": "high"}}'])
def test_a_request_of_the_wrong_form_is_answered_and_forks_nothing(zygote: Zygote, request_: str) -> None:
    assert "not of its form" in zygote.ask(request_)["error"]
    assert status(zygote.fork("after")["port"])["container"] == "after"


def test_children_outlive_their_parent(tmp_path: Path) -> None:
    with loaded_zygote(tmp_path) as (path, first_line):
        assert first_line["loaded"] is True
        zygote = Zygote(path, tmp_path)
        ready = zygote.fork("orphan")
    try:
        assert is_alive(ready["pid"])
        assert status(ready["port"])["container"] == "orphan"
    finally:
        zygote.close()


def test_logs_are_json_lines_with_the_container(zygote: Zygote, tmp_path: Path) -> None:
    zygote.fork("talkative")
    deadline = time.monotonic() + 5
    while not (text := (tmp_path / "talkative.log").read_text()) and time.monotonic() < deadline:
        pass
    assert text
    assert all(json.loads(line)["container"] == "talkative" for line in text.splitlines())


def test_an_unknown_kind_is_refused_with_the_ones_there_are() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "gpu_workers", "abacus"], cwd=ROOT, env=environment(), capture_output=True, timeout=60
    )
    assert out.returncode == 2
    assert b"cascade" in out.stderr
