"""Where SIP messages go, and where our own come from (RFC 3261, sections 18 and 19)."""

from __future__ import annotations

import dataclasses
import enum

Address = tuple[str, int]


class Transport(enum.StrEnum):
    """As Via names it."""

    UDP = "UDP"
    TCP = "TCP"
    TLS = "TLS"

    @property
    def is_stream(self) -> bool:
        return self is not Transport.UDP

    @property
    def default_port(self) -> int:
        return 5061 if self is Transport.TLS else 5060


@dataclasses.dataclass(frozen=True, slots=True)
class Hop:
    """Where messages for a peer go. Of a stream, `address` names the connection while that is open."""

    transport: Transport
    address: Address
    listens_at: Address
    """Where a new connection is made to once the old one is gone."""
    name: str = ""
    """What its certificate has to be for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Here:
    """The address at which peers reach us."""

    host: str
    port: int
    tls_port: int

    def port_of(self, transport: Transport) -> int:
        return self.tls_port if transport is Transport.TLS else self.port

    def via(self, transport: Transport) -> str:
        return f"SIP/2.0/{transport} {self.host}:{self.port_of(transport)}"

    def uri(self, transport: Transport, *, user: str = "", is_sips: bool = False) -> str:
        """Return what a Contact of ours says."""
        return uri_at((self.host, self.port_of(transport)), transport, user=user, is_sips=is_sips)


def uri_at(address: Address, transport: Transport, *, user: str = "", is_sips: bool = False) -> str:
    """Return the URI of somebody at an address. UDP is what a URI means that names no transport."""
    who = f"{user}@" if user else ""
    where = f"{who}{address[0]}:{address[1]}"
    if is_sips:
        return f"sips:{where}"
    return f"sip:{where}" if transport is Transport.UDP else f"sip:{where};transport={transport.lower()}"
