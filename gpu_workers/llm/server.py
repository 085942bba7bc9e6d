"""The model server: a program of its own behind the worker, which speaks OpenAI's API on this machine alone.

vLLM by default. With sleep mode its weights lie in the machine's memory while a snapshot is taken, and are back on the
GPU in a moment (vLLM's documentation, "Sleep Mode").
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any, Self

logger = logging.getLogger(__name__)

SERVED_MODEL = "default"
"""The name under which clients ask for the model, whichever it is."""
COMMAND = (
    "vllm serve {model} --served-model-name {name} --host 127.0.0.1 --port {port} --max-num-seqs {sequences} "
    "--enable-sleep-mode --enable-auto-tool-choice --tool-call-parser llama3_json"
)
LOAD_SECONDS = 900.0
ASK_SECONDS = 120.0
"""For a first completion, for falling asleep and for waking up."""
POLL_SECONDS = 0.2
STOP_SECONDS = 5.0
NO_SUCH_PATH = (404, 405)
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class ServerFailed(RuntimeError):
    """The model server ended, does not answer or refuses. The sentence says which."""


@dataclasses.dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the model server is started. `{model}`, `{name}`, `{port}` and `{sequences}` are put into the command."""

    model: str
    sequences: int
    command: str = COMMAND
    load_seconds: float = LOAD_SECONDS

    @classmethod
    def from_environment(cls, *, model: str, sequences: int) -> Self:
        """Read LLM_SERVER_COMMAND and LLM_SERVER_LOAD_SECONDS."""
        return cls(
            model=model,
            sequences=sequences,
            command=os.environ.get("LLM_SERVER_COMMAND") or COMMAND,
            load_seconds=float(os.environ.get("LLM_SERVER_LOAD_SECONDS") or LOAD_SECONDS),
        )

    def arguments(self, port: int) -> list[str]:
        values = {"model": self.model, "name": SERVED_MODEL, "port": port, "sequences": self.sequences}
        return [part.format(**values) for part in shlex.split(self.command)]


class ModelServer:
    """The running program, from its start to its end."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._can_sleep = True
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        # Not of the worker's environment: what is secret there is not the server's.
        passed = {name: value for name, value in os.environ.items() if not name.startswith(("WARMLINE_", "LLM_"))}
        try:
            self.process = subprocess.Popen(
                settings.arguments(self.port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # /sleep and its like are there in this mode alone; nobody but this machine reaches them.
                env={**passed, "VLLM_SERVER_DEV_MODE": "1"},
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  (no other thread has started yet)
            )
        except OSError as problem:
            raise ServerFailed(f"The model server cannot be started: {problem}") from problem

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            ServerFailed: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + self._settings.load_seconds
        while True:
            if (code := self.process.poll()) is not None:
                raise ServerFailed(f"The model server ended with {code} while it loaded.")
            try:
                self._ask("GET", "/health", timeout_seconds=2.0)
                return
            except ServerFailed:
                if time.monotonic() > deadline:
                    raise ServerFailed(
                        f"The model server was not ready in {self._settings.load_seconds:g} s."
                    ) from None
            time.sleep(POLL_SECONDS)

    def warm_up(self) -> None:
        """Have it say a word, so that no caller waits for what is only done once."""
        words = [{"role": "user", "content": "Say yes."}]
        self._ask("POST", "/v1/chat/completions", {"model": SERVED_MODEL, "messages": words, "max_tokens": 2})

    def sleep(self) -> None:
        """Move its weights off the GPU; one that cannot sleep stays awake."""
        try:
            self._ask("POST", "/sleep?level=1")
        except ServerFailed as problem:
            if not isinstance(problem.__cause__, urllib.error.HTTPError) or problem.__cause__.code not in NO_SUCH_PATH:
                raise
            logger.warning("the model server cannot sleep: a snapshot holds its weights where they are")
            self._can_sleep = False

    def wake_up(self) -> None:
        if self._can_sleep:
            self._ask("POST", "/wake_up")
        self._ask("GET", "/health")

    def stop(self) -> None:
        """End it with all that it started."""
        for which in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, which)
            except ProcessLookupError:
                break
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait(STOP_SECONDS)

    def _ask(
        self, method: str, path: str, document: dict[str, Any] | None = None, *, timeout_seconds: float = ASK_SECONDS
    ) -> None:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data=body, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with _direct.open(request, timeout=timeout_seconds) as answer:
                answer.read()
        except urllib.error.HTTPError as problem:
            with problem:
                raise ServerFailed(f"The model server answers {path} with {problem.code}.") from problem
        except OSError as problem:
            raise ServerFailed(f"The model server does not answer {path}: {problem}") from problem


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _end_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
