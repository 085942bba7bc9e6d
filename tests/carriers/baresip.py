"""A SIP telephone of the tests: Debian's baresip as a process, told what to do over its control socket."""

from __future__ import annotations

import json
import socket
import struct
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from tests.voice.processes import START_SECONDS, Process, wait_until
from voice.telephony.g711 import RATE_HZ

MODULES = Path("/usr/lib/baresip/modules")
ANSWER_SECONDS = 30.0
WAV_HEAD_BYTES = 44
LOUD = 0.02

Samples = npt.NDArray[np.float32]


def write_wav(path: Path, samples: Samples) -> Path:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE_HZ)
        wav.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def _read(path: Path) -> Samples:
    """Return a file of baresip's at 8 kHz, of one ear: it is in the rate and the channels of the call's codec."""
    data = path.read_bytes()
    if len(data) < WAV_HEAD_BYTES:
        return np.zeros(0, np.float32)
    channels, rate_hz = struct.unpack_from("<HL", data, 22)
    whole = len(data) - (len(data) - WAV_HEAD_BYTES) % (2 * channels)
    samples = np.frombuffer(data[WAV_HEAD_BYTES:whole], "<i2").reshape(-1, channels)[:, 0].astype(np.float32) / 32768
    return soxr.resample(samples, rate_hz, RATE_HZ) if rate_hz != RATE_HZ else samples


class Baresip:
    """What it says is a WAV, over and over; what it hears goes to another."""

    def __init__(
        self,
        folder: Path,
        *,
        sip_port: int,
        control_port: int,
        says: Path,
        user: str = "caller",
        account: str = "",
        codec: str = "PCMU/8000",
        host: str = "127.0.0.1",
        authorities: Path | None = None,
        certificate: Path | None = None,
    ) -> None:
        """
        Args:
            authorities: whose certificates it believes over TLS; it encrypts its sound where the account says so.
            certificate: its own, with the key, for who comes over TLS to the port after `sip_port`.
        """
        folder.mkdir()
        self.folder = folder
        self.sip_port = sip_port
        self._user = user
        self.events: list[dict[str, Any]] = []
        (folder / "accounts").write_text(f"<sip:{user}@{host}>;regint=0;audio_codecs={codec}{account}\n")
        (folder / "contacts").write_text("")
        (folder / "config").write_text(
            "\n".join(
                [
                    f"sip_listen {host}:{sip_port}",
                    *([f"sip_cafile {authorities}", "module srtp.so"] if authorities else []),
                    *([f"sip_certificate {certificate}"] if certificate else []),
                    f"module_path {MODULES}",
                    *(f"module {name}.so" for name in ("g711", "opus", "aufile", "sndfile")),
                    "module_tmp account.so",
                    *(f"module_app {name}.so" for name in ("menu", "ctrl_tcp")),
                    f"ctrl_tcp_listen 127.0.0.1:{control_port}",
                    f"audio_source aufile,{says}",
                    f"audio_player aufile,{folder}/played.wav",
                    "audio_alert aufile,/dev/null",
                    f"snd_path {folder}",
                    *(f"{name}_srate {RATE_HZ}" for name in ("ausrc", "auplay")),
                    *(f"{name}_channels 1" for name in ("ausrc", "auplay")),
                    "jitter_buffer_delay 1-5",
                    f"net_interface {host}",
                    "",
                ]
            )
        )
        self.process = Process(["baresip", "-f", str(folder), "-v"], output=folder / "baresip.log")
        self._control = self._connect(control_port)
        self._rest = b""
        self._token = 0
        self.tell("listcalls", within_seconds=START_SECONDS)  # so it is this baresip, and it takes commands

    def close(self) -> None:
        self._control.close()

    @property
    def uri(self) -> str:
        return f"sip:{self._user}@127.0.0.1:{self.sip_port}"

    def dial(self, number: str, *, at: int, transport: str = "udp") -> None:
        self.tell("dial", f"sip:{number}@127.0.0.1:{at};transport={transport}")

    def tell(self, command: str, parameters: str = "", *, within_seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Give a command of its menu, and return what it said to that."""
        self._token += 1
        text = json.dumps({"command": command, "params": parameters, "token": str(self._token)})
        self._control.sendall(f"{len(text)}:{text},".encode())
        return self._await(
            lambda message: message.get("token") == str(self._token), within_seconds=within_seconds, what=command
        )

    def wait_for(self, kind: str, *, within_seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Wait for an event of a call, like CALL_ESTABLISHED; each is found once."""
        for at, event in enumerate(self.events):
            if event.get("type") == kind:
                return self.events.pop(at)
        return self._await(lambda message: message.get("type") == kind, within_seconds=within_seconds, what=kind)

    def heard(self) -> Samples:
        """Return what it heard in its last call, once that is over."""
        return _read(max(self.folder.glob("dump-*dec.wav"), key=lambda path: path.stat().st_mtime))

    def say(self, samples: Samples) -> None:
        """Speak, in the place of what it said so far; at the end of that the call is over."""
        self._token += 1
        self.tell("ausrc", f"aufile,{write_wav(self.folder / f'says-{self._token}.wav', samples)}")

    def listen(self, quiet_seconds: float, *, within_seconds: float = 30.0) -> None:
        """Wait until it has heard something more, and then nothing for so long."""
        begin = len(self._hearing())

        def is_quiet() -> bool:
            heard = np.abs(self._hearing()[begin:]) > LOUD
            return bool(heard.any()) and len(heard) - np.flatnonzero(heard)[-1] > quiet_seconds * RATE_HZ

        wait_until(is_quiet, within_seconds=within_seconds, what="the end of what is said")

    def _hearing(self) -> Samples:
        """Return what it heard so far: the length in the file's head is written at its end."""
        files = sorted(self.folder.glob("dump-*dec.wav"))
        return _read(files[-1]) if files else np.zeros(0, np.float32)

    def _connect(self, port: int) -> socket.socket:
        found: list[socket.socket] = []

        def connects() -> bool:
            assert self.process.child.poll() is None, self.process.output.read_text()
            try:
                found.append(socket.create_connection(("127.0.0.1", port), timeout=1))
            except OSError:
                return False
            return True

        wait_until(connects, what="baresip's start")
        return found[0]

    def _await(self, wanted: Callable[[dict[str, Any]], bool], *, within_seconds: float, what: str) -> dict[str, Any]:
        deadline = time.monotonic() + within_seconds
        while True:
            for message in self._messages():
                if wanted(message):
                    return message
                if message.get("event"):
                    self.events.append(message)
            self._control.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                came = self._control.recv(65536)
            except TimeoutError:
                came = b""
            if not came:
                log = self.process.output.read_text()[-2000:]
                raise AssertionError(f"baresip did not answer or say {what!r}, but {self.events}: {log}")
            self._rest += came

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Yield what came whole, as netstrings of JSON."""
        while b":" in self._rest:
            length, _, rest = self._rest.partition(b":")
            if len(rest) <= int(length):
                return
            self._rest = rest[int(length) + 1 :]
            yield json.loads(rest[: int(length)])
