"""The processes of a telephone call: a stand-in for Twilio, the telephony process, and the web process for webhooks."""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.carriers import twilio as stand_in
from tests.voice.processes import Process, running, wait_until
from tests.web.web_process import WebProcess
from voice.telephony.g711 import PCMU, Samples

CALLER = "+12125550177"
NUMBER, OTHER_NUMBER = stand_in.NUMBERS.values()


class TwilioProcess:
    """The stand-in, and what the test does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = Process(
            [sys.executable, "-m", "tests.carriers.twilio", "--folder", str(folder)], output=folder / "twilio.log"
        )
        self.url = f"http://127.0.0.1:{self.process.first_line()}"

    def call(self, *steps: dict[str, Any], to: str = NUMBER, caller: str = CALLER) -> str:
        """Have somebody call, and return Twilio's name for the call."""
        return self._post("/tests/calls", {"to": to, "from": caller, "steps": list(steps)})["sid"]

    def answer_with(self, **how: Any) -> None:
        """Say how whoever is called from here on takes it."""
        self._post("/tests/answers", how)

    def read(self, sid: str, *, wait_seconds: float = 0) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/tests/calls/{sid}?wait={wait_seconds}", timeout=200) as answer:
            return json.load(answer)

    def end_of(self, sid: str, *, within_seconds: float = 30) -> dict[str, Any]:
        """Wait for a call's end, and return what Twilio saw of it."""
        seen = self.read(sid, wait_seconds=within_seconds)
        assert seen["ended"] and not seen["problem"], seen
        return seen

    def last_call(self) -> str | None:
        with urllib.request.urlopen(f"{self.url}/tests/calls/last", timeout=10) as answer:
            return json.load(answer)["sid"]

    def heard(self, sid: str) -> Samples:
        """Return what the caller heard, once it was read."""
        return PCMU.decode((self.folder / f"{sid}.ulaw").read_bytes())

    def _post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class TelephonyProcess:
    def __init__(self, folder: Path, *, gateway_url: str, port: int | None = None, **limits: str) -> None:
        self.port = port or free_port()
        self.process = Process(
            [sys.executable, "-m", "config.telephony", "--port", str(self.port)],
            output=folder / f"telephony-{self.port}.log",
            env={"TELEPHONY_GATEWAY_URL": gateway_url, "TELEPHONY_DRAIN_SECONDS": "1", **limits},
        )
        wait_until(self._answers, within_seconds=30, what="the start of the telephony process")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.process.output.read_text()

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
            return json.load(answer)

    def _answers(self) -> bool:
        assert self.process.child.poll() is None, self.log
        try:
            return bool(self.health()["ok"])
        except OSError:
            return False


@contextmanager
def telephone_exchange(
    folder: Path, *, gateway_url: str, **more: str
) -> Iterator[tuple[TwilioProcess, TelephonyProcess, WebProcess]]:
    """Run all three, knowing each other."""
    twilio = TwilioProcess(folder)
    with running(twilio.process):
        telephony = TelephonyProcess(folder, gateway_url=gateway_url, **more)
        with running(telephony.process):
            web = WebProcess(
                folder,
                gateway_url=gateway_url,
                more={"TWILIO_URL": twilio.url, "TELEPHONY_URL": telephony.url, **more},
            )
            with running(web.process):
                yield twilio, telephony, web


def write_ulaw(path: Path, samples: Samples) -> str:
    """Write sound of 8 kHz for a caller to say, and return the path as a step takes it."""
    path.write_bytes(PCMU.encode(samples.astype(np.float32)))
    return str(path)
