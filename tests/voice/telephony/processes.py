"""The processes of a telephone call: stand-ins for carriers, the telephony process, the web process for webhooks."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from tests.carriers import plivo, signalwire, telnyx, twilio
from tests.carriers.network import NUMBERS
from tests.ports import free_port
from tests.voice.processes import Process, running, wait_until
from tests.web.web_process import WebProcess
from voice.telephony.g711 import PCMU, Samples

CALLER = "+12125550177"
NUMBER, OTHER_NUMBER = NUMBERS
STAND_INS: dict[str, Any] = {"twilio": twilio, "signalwire": signalwire, "telnyx": telnyx, "plivo": plivo}
"""By carrier: the module of its stand-in, with the credentials of an account and how requests are signed."""
_PATHS = {"telnyx": "/v2", "plivo": "/v1"}


class CarrierProcess:
    """A stand-in, and what the test does with it."""

    def __init__(self, folder: Path, carrier: str = "twilio", *, port: int = 0) -> None:
        self.folder = folder
        self.carrier = carrier
        command = [sys.executable, "-m", f"tests.carriers.{carrier}", "--folder", str(folder), "--port", str(port)]
        self.process = Process(command, output=folder / f"{carrier}.log")
        self.url = f"http://127.0.0.1:{self.process.first_line()}"

    @property
    def setting(self) -> tuple[str, str]:
        """The setting that says where the carrier's API is, and its value."""
        return setting_of(self.carrier, self.url)

    def call(self, *steps: dict[str, Any], to: str = NUMBER, caller: str = CALLER) -> str:
        """Have somebody call, and return the carrier's name for the call."""
        return self._post("/tests/calls", {"to": to, "from": caller, "steps": list(steps)})["sid"]

    def answer_with(self, **how: Any) -> None:
        """Say how whoever is called from here on takes it."""
        self._post("/tests/answers", how)

    def read(self, sid: str, *, wait_seconds: float = 0) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/tests/calls/{sid}?wait={wait_seconds}", timeout=200) as answer:
            return json.load(answer)

    def end_of(self, sid: str, *, within_seconds: float = 30) -> dict[str, Any]:
        """Wait for a call's end, and return what the carrier saw of it."""
        seen = self.read(sid, wait_seconds=within_seconds)
        assert seen["ended"] and not seen["problem"], seen
        return seen

    def last_call(self) -> str | None:
        with urllib.request.urlopen(f"{self.url}/tests/calls/last", timeout=10) as answer:
            return json.load(answer)["sid"]

    def voice_url_of(self, number: str) -> str:
        """Return where the carrier asks when a number of the account is called."""
        asked = f"{self.url}/tests/numbers?number={quote(number)}"
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)["voice_url"]

    def heard(self, sid: str) -> Samples:
        """Return what the caller heard, once it was read."""
        return PCMU.decode((self.folder / f"{sid}.ulaw").read_bytes())

    def _post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


class Carriers:
    """All carriers, each begun when it is first wanted: others are told before where it will be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {carrier: free_port() for carrier in STAND_INS}
        self._begun: dict[str, CarrierProcess] = {}

    @property
    def settings(self) -> dict[str, str]:
        return dict(setting_of(carrier, f"http://127.0.0.1:{port}") for carrier, port in self._ports.items())

    def get(self, carrier: str) -> CarrierProcess:
        if carrier not in self._begun:
            self._begun[carrier] = CarrierProcess(self._folder, carrier, port=self._ports[carrier])
        return self._begun[carrier]

    def stop(self) -> None:
        for each in self._begun.values():
            each.process.stop()


def setting_of(carrier: str, url: str) -> tuple[str, str]:
    return f"{carrier.upper()}_URL", url + _PATHS.get(carrier, "")


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
) -> Iterator[tuple[Carriers, TelephonyProcess, WebProcess]]:
    """Run all three, knowing each other."""
    carriers = Carriers(folder)
    telephony = TelephonyProcess(folder, gateway_url=gateway_url, **more)
    with running(telephony.process):
        web = WebProcess(
            folder,
            gateway_url=gateway_url,
            more={**carriers.settings, "TELEPHONY_URL": telephony.url, **more},
        )
        with running(web.process):
            try:
                yield carriers, telephony, web
            finally:
                carriers.stop()


def write_ulaw(path: Path, samples: Samples) -> str:
    """Write sound of 8 kHz for a caller to say, and return the path as a step takes it."""
    path.write_bytes(PCMU.encode(samples.astype(np.float32)))
    return str(path)
