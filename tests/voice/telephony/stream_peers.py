"""Peers of a telephony process over TCP and TLS, and certificates for them."""

from __future__ import annotations

import dataclasses
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

from tests.voice.telephony.sip_peers import Answer, PlainPeer


class StreamPeer(PlainPeer):
    """A PlainPeer on a connection, of TLS with a context."""

    def __init__(self, to: int, *, context: ssl.SSLContext | None = None, **more: str) -> None:
        self._context = context
        self.transport = "TLS" if context else "TCP"
        self._at = to
        self._rest = b""
        super().__init__(to, **more)

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._at), timeout=5, source_address=(self._host, 0))
        return self._context.wrap_socket(opened, server_hostname="localhost") if self._context else opened

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, *, within_seconds: float = 5.0) -> Answer:
        deadline = time.monotonic() + within_seconds
        while True:
            head, ends, body = self._rest.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            if ends and length and len(body) >= int(length[1]):
                self._rest = body[int(length[1]) :]
                text = (head + ends + body[: int(length[1])]).decode()
                first = text.split(" ", 2)
                return Answer(int(first[1]) if first[0] == "SIP/2.0" else 0, text)
            self._rest += self.read(deadline - time.monotonic())

    def read(self, within_seconds: float = 5.0) -> bytes:
        """Return what comes next, of any form.

        Raises:
            TimeoutError
            ConnectionError: the other side closed it.
        """
        self.socket.settimeout(max(0.01, within_seconds))
        if not (data := self.socket.recv(65536)):
            raise ConnectionResetError("closed")
        return data


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Of localhost and 127.0.0.1, signed by itself."""

    chain: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        chain, key = folder / "certificate.pem", folder / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(key), "-out", str(chain), "-days", "2"]
        subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=30)
        return cls(chain, key)

    @property
    def with_key(self) -> Path:
        """Both in one file."""
        both = self.chain.with_name("both.pem")
        both.write_text(self.chain.read_text() + self.key.read_text())
        return both

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.chain))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "SIP_TLS_CERTIFICATE": str(self.chain),
            "SIP_TLS_KEY": str(self.key),
            "SIP_TLS_CA": str(self.chain),
        }
