"""What is set for SIP in the environment: SIP_NAME. Without SIP_HOST nothing listens."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Self

from config import env
from voice.telephony.sip.hops import Transport


@dataclasses.dataclass(frozen=True, slots=True)
class SipOptions:
    host: str
    """IPv4 address that is listened on, for SIP and for sound; empty: no SIP."""
    port: int
    transports: frozenset[Transport]
    """What is listened on: UDP and TCP at `port`, TLS at `tls_port`."""
    tls_port: int
    tls_certificate: str
    """Path of a chain in PEM; empty: nobody reaches us over TLS."""
    tls_key: str
    tls_ca: str
    """Path of the authorities that are believed in the place of the system's where we connect."""
    max_connections: int
    """Over TCP and TLS together."""
    public_address: str
    """IPv4 address that peers are told."""
    rtp_ports: range
    """Even ones, one a call."""
    allowed_peers: tuple[str, ...]
    """As voice.telephony.sip.door reads them."""
    passwords: dict[str, str] = dataclasses.field(repr=False)
    register: tuple[str, ...]
    """As voice.telephony.sip.trunks reads them."""
    trunk: str
    """The same, of where calls are placed; empty: none are."""
    ring_seconds: float
    """How long somebody who is called may take to answer."""
    messages_per_second: int
    """Of one peer; what is more is dropped."""
    media_timeout_seconds: float
    """A line without sound for so long is dead, unless it is held."""
    min_session_seconds: int
    """The shortest session timer that a peer may ask for (RFC 4028)."""

    @classmethod
    def from_environment(cls) -> Self:
        """
        Raises:
            config.env.ConfigurationError: a value is not of its form.
        """
        host = env.text("SIP_HOST", "")
        public_address = env.text("SIP_PUBLIC_ADDRESS", "") or host
        if host:
            _require_address("SIP_HOST", host)
            if _require_address("SIP_PUBLIC_ADDRESS", public_address).is_unspecified:
                raise env.ConfigurationError(
                    "SIP_PUBLIC_ADDRESS must be the address at which peers reach this machine: "
                    f"{public_address} is where it listens."
                )
        certificate, key = env.text("SIP_TLS_CERTIFICATE", ""), env.text("SIP_TLS_KEY", "")
        if bool(certificate) != bool(key):
            raise env.ConfigurationError(
                "SIP_TLS_CERTIFICATE and SIP_TLS_KEY are paths of files: set both, or neither."
            )
        return cls(
            host=host,
            port=env.integer("SIP_PORT", 5060),
            transports=_read_transports(env.words("SIP_TRANSPORTS"), has_certificate=bool(certificate)),
            tls_port=env.integer("SIP_TLS_PORT", 5061),
            tls_certificate=certificate,
            tls_key=key,
            tls_ca=env.text("SIP_TLS_CA", ""),
            max_connections=env.integer("SIP_MAX_CONNECTIONS", 256),
            public_address=public_address,
            rtp_ports=_read_ports(env.text("SIP_RTP_PORTS", "16384-16583")),
            allowed_peers=tuple(env.words("SIP_ALLOWED_PEERS")),
            passwords=_read_passwords(env.secret("SIP_PASSWORDS") or ""),
            register=tuple(env.words("SIP_REGISTER")),
            trunk=env.text("SIP_TRUNK", ""),
            ring_seconds=env.decimal("SIP_RING_SECONDS", 60.0),
            messages_per_second=env.integer("SIP_MESSAGES_PER_SECOND", 200),
            media_timeout_seconds=env.decimal("SIP_MEDIA_TIMEOUT_SECONDS", 30.0),
            min_session_seconds=env.integer("SIP_MIN_SESSION_SECONDS", 90),
        )


def _require_address(name: str, value: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(value)
    except ValueError:
        raise env.ConfigurationError(f"{name} must be an IPv4 address, not {value!r}.") from None


def _read_transports(names: list[str], *, has_certificate: bool) -> frozenset[Transport]:
    """Return those that are named; without a name all that can be."""
    try:
        found = frozenset(Transport(name.upper()) for name in names)
    except ValueError:
        raise env.ConfigurationError("SIP_TRANSPORTS are some of udp, tcp and tls, with commas between.") from None
    if Transport.TLS in found and not has_certificate:
        raise env.ConfigurationError("SIP_TRANSPORTS has tls, which needs SIP_TLS_CERTIFICATE and SIP_TLS_KEY.")
    return found or frozenset(each for each in Transport if has_certificate or each is not Transport.TLS)


def _read_ports(value: str) -> range:
    first, _, last = value.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) < int(last) <= 65535):
        raise env.ConfigurationError(f"SIP_RTP_PORTS must be two ports like 16384-16583, not {value!r}.")
    return range(int(first) + int(first) % 2, int(last) + 1, 2)


def _read_passwords(value: str) -> dict[str, str]:
    found = {}
    for pair in filter(None, (each.strip() for each in value.split(","))):
        name, colon, password = pair.partition(":")
        if not (name and colon and password):
            raise env.ConfigurationError("SIP_PASSWORDS must be pairs like pbx:secret, with commas between.")
        found[name] = password
    return found
