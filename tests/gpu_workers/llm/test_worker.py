"""The worker of language models, as a process with a stand-in for vLLM behind it, spoken to by OpenAI's own client."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from gpu_workers import tokens
from gpu_workers.llm.server import COMMAND, SERVED_MODEL, ServerSettings
from tests.gpu_workers.worker_processes import process, read_line

KEY = secrets.token_bytes(32)
STAND_IN = f"{sys.executable} -m tests.gpu_workers.llm.model_server {{model}} --port {{port}} --name {{name}}"
SECONDS = 20.0


class Running:
    """A worker, and what its model server wrote down."""

    def __init__(self, ready: dict[str, Any], worker: subprocess.Popen[bytes], log: Path) -> None:
        self.ready, self.process, self._log = ready, worker, log
        self.url = f"http://127.0.0.1:{ready['port']}"
        self.clients = contextlib.ExitStack()

    def client(self, session: str = "one", key: bytes = KEY) -> OpenAI:
        """Return a client with a session token; without a key it gets in where none is asked."""
        client = OpenAI(
            base_url=f"{self.url}/v1",
            api_key="none",
            default_headers=authorization(session, key),
            max_retries=0,
            timeout=SECONDS,
        )
        self.clients.callback(client.close)
        return client

    def leave(self, session: str) -> None:
        request = urllib.request.Request(f"{self.url}/session", method="DELETE", headers=authorization(session, KEY))
        urllib.request.urlopen(request, timeout=5).close()

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def sessions(self) -> list[str]:
        return [session["id"] for session in self.get("/status")["sessions"]]

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if line["event"] == kind]


@contextlib.contextmanager
def llm_worker(folder: Path, *options: str, max_sessions: int = 2, key: bytes | None = KEY) -> Iterator[Running]:
    log = folder / "model.log"
    command = " ".join([STAND_IN, "--log", str(log), *options])
    variables = {"LLM_SERVER_COMMAND": command, **({"WARMLINE_SESSION_KEY": key.hex()} if key else {})}
    arguments = ["llm", "--port", "0", "--checkpoint", "/weights/llama", "--max-sessions", str(max_sessions)]
    with process("gpu_workers", *arguments, "--grace-seconds", "2", log=folder / "worker.log", **variables) as worker:
        assert worker.stdout is not None
        running = Running(read_line(worker.stdout, limit_seconds=60), worker, log)
        with running.clients:
            yield running


def authorization(session: str, key: bytes) -> dict[str, str]:
    return {tokens.HEADER: f"Bearer {tokens.sign_session(key, session)}"}


def ask(client: OpenAI, words: str) -> str:
    stream = client.chat.completions.create(
        model=SERVED_MODEL, messages=[{"role": "user", "content": words}], stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_vllm_is_started_with_sleep_mode_and_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_SERVER_COMMAND", raising=False)
    settings = ServerSettings.from_environment(model="/weights/llama 3", sequences=8)
    arguments = settings.arguments(8123)
    assert arguments[:3] == ["vllm", "serve", "/weights/llama 3"]
    assert "--enable-sleep-mode" in arguments
    assert arguments[arguments.index("--max-num-seqs") + 1] == "8"
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert settings.command == COMMAND


def test_the_model_sleeps_for_the_snapshot_and_is_awake_when_it_is_asked(tmp_path: Path) -> None:
    with llm_worker(tmp_path) as running:
        assert [event["event"] for event in running.events("sleep") + running.events("wake_up")] == ["sleep", "wake_up"]
        assert running.events("sleep")[0]["level"] == "1"
        assert running.events("complete")[0]["said"] == "Say yes."  # the warm-up
        assert ask(running.client(), "hello") == "You said: hello."
        assert running.client().models.list().data[0].id == SERVED_MODEL
        started = running.events("started")[0]
        assert started["model"] == "/weights/llama"
        assert started["secrets"] == []
        assert tokens.HEADER not in running.events("complete")[1]["headers"]


def test_an_answer_comes_as_it_is_made(tmp_path: Path) -> None:
    with llm_worker(tmp_path) as running:
        began = time.monotonic()
        stream = running.client().chat.completions.create(
            model=SERVED_MODEL, messages=[{"role": "user", "content": "slow"}], stream=True
        )
        next(iter(stream))
        first = time.monotonic() - began
        for _ in stream:
            pass
        assert first < (time.monotonic() - began) / 2


def test_a_session_is_whoever_holds_a_token_until_it_leaves(tmp_path: Path) -> None:
    with llm_worker(tmp_path, max_sessions=1) as running:
        ask(running.client("one"), "hello")
        ask(running.client("one"), "again")
        assert running.sessions() == ["one"]
        with pytest.raises(openai.InternalServerError) as full:
            ask(running.client("two"), "hello")
        assert full.value.status_code == 503
        assert full.value.response.json()["error"] == "at_capacity"
        running.leave("one")
        assert running.sessions() == []
        assert ask(running.client("two"), "hello") == "You said: hello."


def test_nobody_gets_in_without_a_token_of_this_container(tmp_path: Path) -> None:
    with llm_worker(tmp_path) as running:
        with pytest.raises(openai.AuthenticationError):
            ask(running.client(key=secrets.token_bytes(32)), "hello")
        assert running.sessions() == []


def test_run_by_itself_it_lets_everybody_in_one_request_at_a_time(tmp_path: Path) -> None:
    with llm_worker(tmp_path, key=None) as running:
        assert ask(running.client(), "hello") == "You said: hello."
        deadline = time.monotonic() + 5
        while running.sessions():
            assert time.monotonic() < deadline


def test_what_the_model_refuses_is_passed_on(tmp_path: Path) -> None:
    with llm_worker(tmp_path) as running:
        with pytest.raises(openai.RateLimitError, match="too much"):
            ask(running.client(), "fail")


def test_an_answer_that_breaks_off_does_not_look_whole(tmp_path: Path) -> None:
    with llm_worker(tmp_path) as running:
        with pytest.raises((openai.APIError, httpx2.HTTPError)):
            ask(running.client(), "break off")
        assert ask(running.client(), "hello") == "You said: hello."


def test_a_client_that_goes_stops_the_model(tmp_path: Path) -> None:
    with llm_worker(tmp_path) as running:
        stream = running.client().chat.completions.create(
            model=SERVED_MODEL, messages=[{"role": "user", "content": "slow"}], stream=True
        )
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + SECONDS
        while not running.events("cancelled"):
            assert time.monotonic() < deadline, "the model thought on"
            time.sleep(0.05)


def test_a_worker_whose_model_server_died_ends(tmp_path: Path) -> None:
    with llm_worker(tmp_path) as running:
        with pytest.raises((openai.APIError, httpx2.HTTPError)):
            ask(running.client(), "die")
        assert running.process.wait(SECONDS) == 1
        assert "the model server ended with 7" in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGKILL])
def test_the_model_server_ends_with_its_worker(tmp_path: Path, which: signal.Signals) -> None:
    with llm_worker(tmp_path) as running:
        server = running.events("started")[0]["pid"]
        os.kill(running.process.pid, which)
        running.process.wait(SECONDS)
        assert is_gone(server)


def test_one_that_cannot_sleep_stays_awake(tmp_path: Path) -> None:
    with llm_worker(tmp_path, "--cannot-sleep") as running:
        assert ask(running.client(), "hello") == "You said: hello."
        assert not running.events("wake_up")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (f"{STAND_IN} --never-ready", "was not ready in 2 s"),
        ("false", "ended with 1 while it loaded"),
        ("/no/such/program", "cannot be started"),
    ],
)
def test_one_that_does_not_come_up_is_told_of_and_leaves_nothing(tmp_path: Path, command: str, sentence: str) -> None:
    log = tmp_path / "worker.log"
    variables = {"LLM_SERVER_COMMAND": command, "LLM_SERVER_LOAD_SECONDS": "2"}
    with process("gpu_workers", "llm", "--port", "0", log=log, **variables) as worker:
        assert worker.wait(SECONDS) == 1
        assert sentence in log.read_text()


def test_it_is_not_forked_from_a_loaded_parent(tmp_path: Path) -> None:
    log = tmp_path / "zygote.log"
    with process("gpu_workers.zygote", "llm", "--socket", str(tmp_path / "socket"), log=log) as zygote:
        assert zygote.wait(SECONDS) == 2
        assert "cannot be forked" in log.read_text()
