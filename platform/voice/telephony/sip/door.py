"""Who may send SIP here. All others get no answer, and cost a look at their address.

An entry of SIP_ALLOWED_PEERS is an address or a network, believed by its address, or NAME@NETWORK, which also has to
know NAME's password in SIP_PASSWORDS: digest authentication by RFC 7616, with MD5, as PBXs speak it.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import secrets
import time

from aiosipua import AuthChallenge, SipDigestAuth, SipRequest, build_credentials, parse_auth, stringify_auth
from prometheus_client import Counter

from config import env
from voice.telephony.sip.options import SipOptions

DROPPED = Counter("warmline_sip_dropped_total", "SIP messages that got no answer, by why.", ["reason"])
REALM = "warmline"
NONCE_SECONDS = 60
BURST_SECONDS = 2.0


class Peer:
    """A trunk or a PBX."""

    def __init__(self, network: str, name: str, password: str, messages_per_second: int) -> None:
        self.network = ipaddress.ip_network(network, strict=False)
        self.name = name
        self._password = password
        self._rate = messages_per_second
        self._left = self._most = messages_per_second * BURST_SECONDS
        self._filled_at = time.monotonic()

    @property
    def proves_itself(self) -> bool:
        """Whether its address is not enough."""
        return bool(self.name)

    def may_send(self) -> bool:
        """Count a message, and return whether it is one of those that are looked at."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def knows_password(self, request: SipRequest, nonce: str) -> bool:
        header = request.get_header("authorization")
        if not header:
            return False
        given = parse_auth(header, credentials=True).params
        challenge = {"realm": REALM, "nonce": nonce, "algorithm": "MD5"}
        if "qop" in given:
            challenge["qop"] = "auth"
        try:
            count = int(given.get("nc", "1"), 16)
        except ValueError:
            return False
        expected = build_credentials(
            SipDigestAuth(self.name, self._password),
            AuthChallenge("Digest", challenge),
            request.method,
            request.uri,
            nonce_count=count,
            cnonce=given.get("cnonce", ""),
        )
        assert expected is not None
        return given.get("username") == self.name and hmac.compare_digest(
            expected.params["response"].encode(), given.get("response", "").encode()
        )


class Door:
    """
    Raises:
        config.env.ConfigurationError: an entry is not of its form, or a name has no password.
    """

    def __init__(self, options: SipOptions) -> None:
        self._peers = [_read_peer(entry, options) for entry in options.allowed_peers]
        self._secret = secrets.token_bytes(32)
        self._find = functools.lru_cache(1024)(self._look_up)

    def find(self, address: str) -> Peer | None:
        return self._find(address)

    def _look_up(self, address: str) -> Peer | None:
        ip = ipaddress.ip_address(address)
        return next((peer for peer in self._peers if ip in peer.network), None)

    def challenge(self, request: SipRequest, address: str) -> str:
        """Return what a peer that did not prove itself is asked: a WWW-Authenticate header."""
        nonce = self._nonce(request, address, int(time.time()))
        return stringify_auth(
            AuthChallenge("Digest", {"realm": REALM, "nonce": nonce, "algorithm": "MD5", "qop": "auth"})
        )

    def believes(self, peer: Peer, request: SipRequest, address: str) -> bool:
        if not peer.proves_itself:
            return True
        given = parse_auth(request.get_header("authorization") or "", credentials=True).params.get("nonce", "")
        asked_at = given.partition(".")[0]
        if not asked_at.isdecimal() or not 0 <= time.time() - int(asked_at[:12]) <= NONCE_SECONDS:
            return False
        nonce = self._nonce(request, address, int(asked_at[:12]))
        return hmac.compare_digest(nonce.encode(), given.encode()) and peer.knows_password(request, nonce)

    def _nonce(self, request: SipRequest, address: str, at: int) -> str:
        """Return a nonce that nobody has to remember: it is good for one address and one Call-ID, for a minute."""
        message = f"{at} {address} {request.call_id}".encode()
        return f"{at}.{hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:32]}"


def _read_peer(entry: str, options: SipOptions) -> Peer:
    name, _, network = entry.rpartition("@")
    if name and name not in options.passwords:
        raise env.ConfigurationError(f"SIP_ALLOWED_PEERS names {name}, which has no password in SIP_PASSWORDS.")
    try:
        return Peer(network, name, options.passwords.get(name, ""), options.messages_per_second)
    except ValueError:
        raise env.ConfigurationError(
            f"SIP_ALLOWED_PEERS must be addresses, networks, or NAME@NETWORK, not {entry!r}."
        ) from None
